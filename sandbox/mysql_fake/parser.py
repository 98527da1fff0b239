"""Parses the statements that the fake understands; anything else is a syntax error, so nobody can lean on it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sandbox.mysql_fake.errors import EMPTY_QUERY, MySqlError
from sandbox.mysql_fake.lexer import Kind, Token, syntax_error, tokens
from sandbox.mysql_fake.privileges import ALL_PRIVILEGES, GRANT_OPTION, STATIC_PRIVILEGES
from sandbox.mysql_fake.statements import (
    AccountName,
    AccountOptions,
    AlterUser,
    Authentication,
    Call,
    CreateDatabase,
    CreateUser,
    DropUser,
    EndTransaction,
    Equals,
    Expression,
    FlushPrivileges,
    Grant,
    Level,
    Literal,
    Revoke,
    Select,
    SelectUsers,
    SetVariables,
    ShowWarnings,
    Statement,
    SystemVariable,
    Use,
)

FUNCTIONS = {
    "CONNECTION_ID": 0,
    "CURRENT_USER": 0,
    "DATABASE": 0,
    "GET_LOCK": 2,
    "IS_FREE_LOCK": 1,
    "IS_USED_LOCK": 1,
    "RELEASE_ALL_LOCKS": 0,
    "RELEASE_LOCK": 1,
    "USER": 0,
    "VERSION": 0,
}
"""The native functions, with how many arguments each takes."""

_Rest = Callable[[], Statement]


@dataclass(frozen=True)
class Parsed:
    """A statement, and how the server writes it to its logs: with `<secret>` for each password."""

    statement: Statement
    loggable: str


def parse(text: str, *, sql_mode: frozenset[str] = frozenset(), retain_with_hash: bool = False) -> Parsed:
    """Parses one statement.

    Args:
        text: The statement.
        sql_mode: The session's SQL mode; two of its flags change how strings are read.
        retain_with_hash: Whether RETAIN CURRENT PASSWORD may follow `AS 'hash'`.

    Raises:
        MySqlError: 1064 where the statement is not understood.
    """
    words = tokens(
        text,
        backslash_escapes="NO_BACKSLASH_ESCAPES" not in sql_mode,
        ansi_quotes="ANSI_QUOTES" in sql_mode,
    )
    parser = _Parser(text, words, retain_with_hash)
    statement = parser.whole()
    return Parsed(statement, parser.loggable())


@dataclass
class _Parser:
    text: str
    words: list[Token]
    retain_with_hash: bool
    _next: int = 0
    _secrets: list[Token] = field(default_factory=list)

    def whole(self) -> Statement:
        """The statement, with nothing but a semicolon behind it."""
        if len(self.words) == 1:
            raise MySqlError(EMPTY_QUERY)
        statement = self._statement()
        self._accept(";")
        self._take(Kind.END)
        return statement

    def loggable(self) -> str:
        """The text with its passwords replaced, as MySQL rewrites statements before it logs them."""
        pieces, position = [], 0
        for secret in self._secrets:
            pieces += [self.text[position : secret.start], "<secret>"]
            position = secret.end
        return "".join([*pieces, self.text[position:]])

    def _statement(self) -> Statement:
        rest: tuple[tuple[tuple[str, ...], _Rest], ...] = (
            (("SELECT",), self._select),
            (("SHOW", "WARNINGS"), ShowWarnings),
            (("SET",), self._set),
            (("USE",), lambda: Use(self._identifier())),
            (("COMMIT",), EndTransaction),
            (("ROLLBACK",), EndTransaction),
            (("BEGIN",), EndTransaction),
            (("START", "TRANSACTION"), EndTransaction),
            (("CREATE", "USER"), self._create_user),
            (("ALTER", "USER"), self._alter_user),
            (("DROP", "USER"), self._drop_user),
            (("GRANT",), self._grant),
            (("REVOKE",), self._revoke),
            (("FLUSH", "PRIVILEGES"), FlushPrivileges),
            (("CREATE", "DATABASE"), self._create_database),
        )
        for keywords, parse_rest in rest:
            if self._accept(*keywords):
                return parse_rest()
        raise self._error()

    # SELECT and SET.

    def _select(self) -> Select | SelectUsers:
        start = self._next
        if self._at.kind in {Kind.WORD, Kind.NAME} and self._peek(1).value in {",", "FROM", "from"}:
            columns = [self._identifier()]
            while self._accept(","):
                columns.append(self._identifier())
            if self._accept("FROM", "MYSQL", ".", "USER"):
                return SelectUsers(tuple(columns), self._equalities())
            self._next = start
        named = [self._named_expression()]
        while self._accept(","):
            named.append(self._named_expression())
        return Select(tuple(named))

    def _equalities(self) -> tuple[tuple[str, str], ...]:
        found: list[tuple[str, str]] = []
        while self._accept("AND" if found else "WHERE"):
            column = self._identifier()
            self._expect("=")
            found.append((column, self._take(Kind.STRING).value))
        return tuple(found)

    def _named_expression(self) -> tuple[str, Expression]:
        start = self._at.start
        expression = self._operand()
        if self._accept("="):
            expression = Equals(expression, self._operand())
        label = self.text[start : self._peek(-1).end]
        if self._accept("AS"):
            label = self._take(Kind.STRING, Kind.NAME, Kind.WORD).value
        return label, expression

    def _operand(self) -> Expression:
        if self._at.kind is Kind.VARIABLE:
            return SystemVariable(self._system_variable())
        if self._at.kind is Kind.WORD and self._at.value.upper() in FUNCTIONS:
            return self._call()
        return Literal(self._constant())

    def _call(self) -> Call:
        function = self._take(Kind.WORD).value.upper()
        if function == "CURRENT_USER" and not self._accept("("):
            return Call(function, ())
        if function != "CURRENT_USER":
            self._expect("(")
        arguments: list[Expression] = []
        while not self._accept(")"):
            if arguments:
                self._expect(",")
            arguments.append(self._operand())
        return Call(function, tuple(arguments))

    def _constant(self) -> int | float | str | None:
        if self._accept("NULL"):
            return None
        if self._at.kind is Kind.STRING:
            return self._take(Kind.STRING).value
        sign = -1 if self._accept("-") else 1
        digits = self._take(Kind.NUMBER).value
        return sign * (int(digits) if digits.isdecimal() else float(digits))

    def _set(self) -> SetVariables:
        if self._accept("NAMES"):
            character_set = self._take(Kind.WORD, Kind.STRING).value
            if self._accept("COLLATE"):
                self._take(Kind.WORD, Kind.STRING)
            return SetVariables((("character_set_client", character_set),))
        values = [self._assignment()]
        while self._accept(","):
            values.append(self._assignment())
        return SetVariables(tuple(values))

    def _assignment(self) -> tuple[str, int | str | None]:
        if self._at.kind is Kind.VARIABLE:
            name = self._system_variable()
        else:
            self._accept("SESSION")
            name = self._take(Kind.WORD).value.lower()
        self._expect("=")
        if self._at.kind is Kind.WORD and self._at.value.upper() != "NULL":
            return name, self._take(Kind.WORD).value
        value = self._constant()
        if isinstance(value, float):
            raise self._error(-1)
        return name, value

    def _system_variable(self) -> str:
        name = self._take(Kind.VARIABLE).value[2:].lower().removeprefix("session.")
        if "." in name:
            raise self._error(-1)
        return name

    # Accounts.

    def _create_user(self) -> CreateUser:
        if_not_exists = self._accept("IF", "NOT", "EXISTS")
        return CreateUser(self._account(), if_not_exists, self._authentication(), self._options())

    def _alter_user(self) -> AlterUser:
        if_exists = self._accept("IF", "EXISTS")
        if self._accept("USER", "(", ")") or self._accept("CURRENT_USER", "(", ")"):
            account = None
        else:
            account = None if self._accept("CURRENT_USER") else self._account()
        authentication = self._authentication()
        may_retain = authentication is not None and (authentication.verifier is None or self.retain_with_hash)
        retain = may_retain and self._accept("RETAIN", "CURRENT", "PASSWORD")
        discard = authentication is None and self._accept("DISCARD", "OLD", "PASSWORD")
        options = self._options()
        return AlterUser(account, if_exists, authentication, retain, discard, options)

    def _drop_user(self) -> DropUser:
        if_exists = self._accept("IF", "EXISTS")
        return DropUser(self._account(), if_exists)

    def _create_database(self) -> CreateDatabase:
        if_not_exists = self._accept("IF", "NOT", "EXISTS")
        return CreateDatabase(self._identifier(), if_not_exists)

    def _authentication(self) -> Authentication | None:
        if not self._accept("IDENTIFIED"):
            return None
        plugin = None
        if self._accept("WITH"):
            plugin = self._take(Kind.WORD, Kind.NAME, Kind.STRING).value
        if plugin is not None and self._accept("AS"):
            return Authentication(plugin, None, self._verifier())
        self._expect("BY")
        password = self._take(Kind.STRING)
        self._secrets.append(password)
        return Authentication(plugin, password.value, None)

    def _verifier(self) -> bytes:
        token = self._take(Kind.STRING, Kind.HEX)
        if token.kind is Kind.STRING:
            return token.value.encode()
        return bytes.fromhex(token.value[2:].rstrip("'"))

    def _options(self) -> AccountOptions:
        require_tls = None
        if self._accept("REQUIRE"):
            require_tls = not self._accept("NONE")
            if require_tls:
                self._expect("SSL")
        expire = lock = None
        while True:
            if self._accept("PASSWORD", "EXPIRE"):
                expire = not (self._accept("NEVER") or self._accept("DEFAULT"))
            elif self._accept("PASSWORD", "HISTORY") or self._accept("PASSWORD", "REUSE", "INTERVAL"):
                # The fake remembers no passwords, so 0 is the only number that it can honour.
                self._expect_zero()
                self._accept("DAY")
            elif self._accept("ACCOUNT"):
                lock = self._accept("LOCK")
                if not lock:
                    self._expect("UNLOCK")
            else:
                return AccountOptions(require_tls, expire, lock)

    def _expect_zero(self) -> None:
        if self._take(Kind.NUMBER).value != "0":
            raise self._error(-1)

    def _account(self) -> AccountName:
        user = self._take(Kind.STRING, Kind.NAME, Kind.WORD).value
        if not self._accept("@"):
            return AccountName(user)
        host = self._take(Kind.STRING, Kind.NAME, Kind.WORD).value
        while self._accept("."):
            host += "." + self._take(Kind.WORD).value
        return AccountName(user, host.lower())

    # Privileges.

    def _grant(self) -> Grant:
        privileges = self._privileges()
        self._expect("ON")
        level = self._level()
        self._expect("TO")
        account = self._account()
        if self._accept("WITH", "GRANT", "OPTION"):
            privileges |= {GRANT_OPTION}
        return Grant(privileges, level, account)

    def _revoke(self) -> Revoke:
        privileges = self._privileges()
        level = None
        if privileges != {ALL_PRIVILEGES, GRANT_OPTION}:
            self._expect("ON")
            level = self._level()
        self._expect("FROM")
        return Revoke(privileges, level, self._account())

    def _privileges(self) -> frozenset[str]:
        names = {self._privilege()}
        while self._accept(","):
            names.add(self._privilege())
        return frozenset(names)

    def _privilege(self) -> str:
        words = [self._take(Kind.WORD).value.upper()]
        while self._at.kind is Kind.WORD and self._at.value.upper() not in {"ON", "FROM"}:
            words.append(self._take(Kind.WORD).value.upper())
        name = " ".join(words)
        if words[0] == "ALL" and words[1:] in ([], ["PRIVILEGES"]):
            return ALL_PRIVILEGES
        if name not in STATIC_PRIVILEGES and len(words) > 1:
            raise self._error(-1)
        return name

    def _level(self) -> Level:
        database = "*" if self._accept("*") else self._identifier()
        self._expect(".")
        if database == "*":
            self._expect("*")
            return Level()
        return Level(database, "*" if self._accept("*") else self._identifier())

    # Words.

    @property
    def _at(self) -> Token:
        return self.words[self._next]

    def _peek(self, distance: int) -> Token:
        return self.words[min(self._next + distance, len(self.words) - 1)]

    def _accept(self, *expected: str) -> bool:
        """Passes over these keywords or symbols if they are what comes next."""
        for distance, text in enumerate(expected):
            token = self._peek(distance)
            if token.kind not in {Kind.WORD, Kind.SYMBOL} or token.value.upper() != text:
                return False
        self._next += len(expected)
        return True

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._error()

    def _take(self, *kinds: Kind) -> Token:
        token = self._at
        if token.kind not in kinds:
            raise self._error()
        self._next += 1
        return token

    def _identifier(self) -> str:
        return self._take(Kind.WORD, Kind.NAME).value

    def _error(self, distance: int = 0) -> MySqlError:
        return syntax_error(self.text, self._peek(distance).start)
