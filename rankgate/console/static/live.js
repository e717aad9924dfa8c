// Keeps pages up to date, and makes them handier. Without it everything works, and is reloaded by hand.
(() => {
  "use strict";

  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];

  // --- times ---------------------------------------------------------------------------------------------------

  const span = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    const h = Math.floor(s / 3600), m = Math.floor((s % 3600) / 60);
    if (s < 86400) return m ? `${h} h ${m} min` : `${h} h`;
    return `${Math.floor(s / 86400)} d`;
  };

  // The server's clock counts, not this machine's.
  const behind = Number(document.body.dataset.now || Date.now()) - Date.now();

  const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };

  const tick = () => {
    const now = Date.now() + behind;
    for (const element of all("[data-since]")) {
      const ms = now - Number(element.dataset.since);
      put(element, ms < 5000 ? "just now" : `${span(ms)} ago`);
    }
    for (const element of all("[data-until]")) {
      const ms = Number(element.dataset.until) - now;
      put(element, ms <= 0 ? "no time left" : `${span(ms)} left`);
    }
  };
  setInterval(tick, 1000);

  // --- copying -------------------------------------------------------------------------------------------------

  const announce = (text) => { const place = one("#announce"); if (place) put(place, text); };
  const showButtons = () => { if (navigator.clipboard) all("[data-copy][hidden]").forEach((button) => { button.hidden = false; }); };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
      announce("Copied");
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    } catch {
      announce("Copying is not allowed here");
    }
  });

  // --- moving through the queue --------------------------------------------------------------------------------

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, textarea, select") || !["j", "k"].includes(event.key)) return;
    const rows = all("[data-row]");
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.contains(document.activeElement));
    const next = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? 0 : at + (event.key === "j" ? 1 : -1)))];
    next.querySelector("h2 a")?.focus();
    event.preventDefault();
  });

  // --- a reason that is being typed survives signing in again; only in this tab, until it is sent ----------------

  const form = one("form[data-draft]");
  if (form) {
    const key = `draft ${form.dataset.draft}`;
    const reason = form.elements.reason;
    const fill = () => { if (!reason.value) reason.value = sessionStorage.getItem(key) || ""; };
    try {
      fill();
      reason.addEventListener("input", () => sessionStorage.setItem(key, reason.value));
    } catch { /* no storage, no drafts */ }
    form.addEventListener("submit", (event) => {
      // Once: a second press would only be told that the first was done.
      if (form.dataset.sent) event.preventDefault();
      form.dataset.sent = "yes";
    });
    window.addEventListener("pageshow", () => { delete form.dataset.sent; });
  } else if (one("#standing")) {
    try { sessionStorage.removeItem(`draft ${one("#standing").dataset.approval}`); } catch { /* none */ }
  }

  // Who signs out leaves nothing behind.
  document.addEventListener("submit", (event) => {
    if (!event.target.action.endsWith("/logout")) return;
    try {
      Object.keys(sessionStorage).filter((key) => key.startsWith("draft ")).forEach((key) => sessionStorage.removeItem(key));
    } catch { /* no storage, no drafts */ }
  });

  // --- what changed --------------------------------------------------------------------------------------------

  const title = document.title.replace(/^\(\d+\) /, "");
  const tell = (state, text) => {
    const place = one("#live-state");
    if (!place) return;
    place.hidden = false;
    place.dataset.state = state;
    put(place, text);
  };

  let rowsBefore = null, held = null;

  const seen = (message) => {
    tell("live", "Up to date");
    const badge = one("#pending-count");
    if (badge) { badge.hidden = !message.pending; put(badge, String(message.pending || "")); }
    const queue = one("#queue");
    if (queue) {
      document.title = message.pending ? `(${message.pending}) ${title}` : title;
      if (queue.dataset.version !== message.version) htmx.trigger(queue, "changed");
    }
    const standing = one("#standing");
    if (standing && standing.dataset.open === "yes" && standing.dataset.version !== message.items[standing.dataset.approval]) {
      htmx.trigger(standing, "changed");
    }
  };

  // Rows come and go above what somebody reads: hold the first one that is in sight where it is.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.id !== "queue") return;
    const rows = all("[data-row]");
    rowsBefore = new Set(rows.map((row) => row.id));
    const row = rows.find((each) => each.getBoundingClientRect().bottom > 0);
    held = row && window.scrollY > 0 ? { id: row.id, top: row.getBoundingClientRect().top } : null;
  });

  document.addEventListener("htmx:afterSwap", (event) => {
    showButtons();
    tick();
    if (rowsBefore) {
      const fresh = all("[data-row]").filter((row) => !rowsBefore.has(row.id));
      for (const row of fresh) row.classList.add("is-new");
      if (fresh.length === 1) announce(`New request of ${fresh[0].querySelector("h2").textContent.trim().replace(/\s+/g, " ")}`);
      if (fresh.length > 1) announce(`${fresh.length} new requests`);
      const row = held && document.getElementById(held.id);
      if (row) window.scrollBy(0, row.getBoundingClientRect().top - held.top);
      rowsBefore = held = null;
    }
    const standing = one("#standing");
    if (standing && event.detail.target.id === "standing") {
      announce(standing.querySelector("h2").textContent.trim());
      if (standing.dataset.votable === "no" && one("#decide")) {
        all("#decide button").forEach((button) => { button.disabled = true; });
        one("#overtaken").hidden = false;
      }
    }
  });

  const lost = () => tell("lost", "Updates stopped; reload the page");
  document.addEventListener("htmx:sendError", lost);
  document.addEventListener("htmx:responseError", lost);

  // --- one connection for all tabs: browsers allow six, and tabs are many ----------------------------------------

  const listen = (take) => new Promise((done) => {
    const source = new EventSource(document.body.dataset.live);
    source.addEventListener("versions", (event) => take(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) { take(null); done(); } else tell("waiting", "Connecting");
    });
  });

  const connect = () => {
    if (!navigator.locks || !window.BroadcastChannel) return listen((message) => (message ? seen(message) : lost()));
    const channel = new BroadcastChannel("rankgate-live");
    let leading = false, latest = null;
    const receive = (message) => { if (message) seen(message); else lost(); };
    channel.addEventListener("message", (event) => {
      if (event.data === "hello") { if (leading && latest) channel.postMessage(latest); } else receive(event.data);
    });
    channel.postMessage("hello");
    return navigator.locks.request("rankgate-live", () => {
      leading = true;
      return listen((message) => { latest = message; receive(message); channel.postMessage(message); });
    });
  };

  showButtons();
  tick();
  if (document.body.dataset.live) { tell("waiting", "Connecting"); connect(); }
})();
