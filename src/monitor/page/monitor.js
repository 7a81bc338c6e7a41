// Keeps the page as it is now: when the gateway tells of something, what changed in the page is put in its place.
"use strict";
(() => {
  const live = document.getElementById("live");
  const path = document.body.dataset.path;
  let wanted = false;
  let running = false;

  // The same element in the page and in the one that was just fetched, by id; focus stays where it was.
  const replace = (from) => {
    for (const fresh of from.querySelectorAll("[data-live]")) {
      const old = document.getElementById(fresh.id);
      if (!old || old.isEqualNode(fresh)) continue;
      const focus = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      const scrolled = old.querySelector(".scroll")?.scrollLeft ?? 0;
      old.replaceWith(document.adoptNode(fresh));
      const scroll = fresh.querySelector(".scroll");
      if (scroll) scroll.scrollLeft = scrolled;
      if (focus !== null) fresh.querySelector(`a[href="${CSS.escape(focus)}"]`)?.focus();
    }
    document.title = from.title;
  };

  const refresh = async () => {
    if (running) { wanted = true; return; }
    running = true;
    try {
      do {
        wanted = false;
        const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
        if (answer.ok) replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
        // A flood of events is shown a few times a second.
        await new Promise((done) => setTimeout(done, 300));
      } while (wanted);
    } catch {
      // The gateway is away; the stream tells when it is back.
    } finally {
      running = false;
    }
  };

  const say = (text) => { if (live) live.textContent = text; };
  const stream = new EventSource("/api/v1/events/stream?after=" + encodeURIComponent(document.body.dataset.event));
  let lost = false;
  stream.onopen = () => {
    if (lost) { say("Connected again."); refresh(); }
    lost = false;
  };
  stream.onerror = () => {
    if (!lost) say("The connection to the gateway is lost. This page shows what was before.");
    lost = true;
  };
  const told = (event) => {
    let fact = {};
    try { fact = JSON.parse(event.data); } catch { return; }
    if (fact.event === "refused" && (path === undefined || fact.path === path)) {
      say(`Failure: ${fact.path}, ${fact.cause}` + (fact.block === null ? "" : `, block ${fact.block}`));
    }
    refresh();
  };
  for (const kind of document.body.dataset.kinds.split(" ")) stream.addEventListener(kind, told);
  // Numbers grow without events, too.
  setInterval(() => { if (!document.hidden) refresh(); }, 15000);
})();
