// Fetches this page again and puts in what has changed, as long as the page is seen. Without it the page reloads itself.
"use strict";
(() => {
  const seconds = (page) => Number(page.body.dataset.every) || 2;
  const fresh = (old, part) => {
    if (old.outerHTML === part.outerHTML) return;
    const held = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    old.replaceWith(document.adoptNode(part));
    if (held !== null) part.querySelector(`[href="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
  };
  const look = async () => {
    let wait = seconds(document);
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const old of document.querySelectorAll("[id^=live-]")) {
        const part = page.getElementById(old.id);
        if (part) fresh(old, part);
      }
      document.title = page.title;
      document.body.dataset.every = page.body.dataset.every;
      document.body.classList.remove("is-lost");
      wait = seconds(page);
    } catch {
      document.body.classList.add("is-lost");
    }
    setTimeout(turn, wait * 1000);
  };
  const turn = () => {
    if (document.visibilityState === "visible") look();
    else document.addEventListener("visibilitychange", turn, { once: true });
  };
  setTimeout(turn, seconds(document) * 1000);
})();
