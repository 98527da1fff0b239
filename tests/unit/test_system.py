"""The real clock and the real randomness."""

import string

from hypothesis import given
from hypothesis import strategies as st

from lockstep.plan.credentials import PASSWORD_CLASSES
from lockstep.protocol.model import PasswordPolicy
from lockstep.runtime.system import SystemPasswords

classes = st.lists(st.text(st.sampled_from(string.printable), min_size=4), min_size=1, max_size=4)
policies = st.builds(PasswordPolicy, length=st.integers(16, 64), classes=classes.map(tuple))


@given(policies)
def test_a_password_follows_its_policy(policy: PasswordPolicy) -> None:
    password = SystemPasswords().new_password(policy).reveal()
    assert len(password) == policy.length
    assert set(password) <= set("".join(policy.classes))
    assert all(set(password) & set(wanted) for wanted in policy.classes)


def test_passwords_differ_and_use_the_whole_alphabet() -> None:
    policy = PasswordPolicy(length=32, classes=PASSWORD_CLASSES)
    passwords = [SystemPasswords().new_password(policy).reveal() for _ in range(300)]
    assert len(set(passwords)) == len(passwords)
    assert set("".join(passwords)) == set("".join(policy.classes))
    # It needs no quoting in a URL or a shell.
    assert set("".join(PASSWORD_CLASSES)) <= set(string.ascii_letters + string.digits + "-_.~")
