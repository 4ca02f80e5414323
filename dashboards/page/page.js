// Keeps the live page live. The server writes all markup; this fetches it again at every
// transition and every now and then, and puts only what differs into the page, so that focus,
// unfolded details and selections stay. Must not know how anything is drawn, nor any address
// but `page/live` and `api/v1/events`.
"use strict";
{
  const main = document.getElementById("live");
  const link = document.getElementById("link");
  const lost = document.getElementById("lost");
  const announce = document.getElementById("announce");
  const icon = document.querySelector("link[rel=icon]");
  const live = () => main.querySelector(".live");
  const version = live().dataset.version;

  /* ---- One document into another ---- */

  // What the page itself adds to the server's markup, and a refresh must leave alone.
  const OWN = new Set(["open", "hidden", "data-changed"]);

  function morph(node, next) {
    if (node.nodeType !== Node.ELEMENT_NODE) {
      if (node.data !== next.data) node.data = next.data;
      return;
    }
    for (const { name } of [...node.attributes]) {
      if (!next.hasAttribute(name) && !OWN.has(name)) node.removeAttribute(name);
    }
    for (const { name, value } of next.attributes) {
      if (node.getAttribute(name) !== value) node.setAttribute(name, value);
    }
    morphChildren(node, next);
  }

  function morphChildren(node, next) {
    const staying = new Set([...next.children].map((child) => child.id));
    const named = new Map();
    for (const child of [...node.children]) {
      if (child.id && !staying.has(child.id)) child.remove();
      else if (child.id) named.set(child.id, child);
    }
    let cursor = node.firstChild;
    for (const wanted of [...next.childNodes]) {
      const match = wanted.id ? named.get(wanted.id) : cursor;
      if (!match || match.nodeName !== wanted.nodeName || (match.id || "") !== (wanted.id || "")) {
        node.insertBefore(document.importNode(wanted, true), cursor);
        continue;
      }
      if (match === cursor) cursor = cursor.nextSibling;
      else node.insertBefore(match, cursor);
      morph(match, wanted);
    }
    while (cursor) {
      const gone = cursor;
      cursor = cursor.nextSibling;
      gone.remove();
    }
  }

  /* ---- Fetching the live part ---- */

  let fetching = false;
  let again = false;
  let timer = 0;
  let fetched = true;

  function refresh() {
    if (fetching) {
      again = true;
      return;
    }
    fetching = true;
    clearTimeout(timer);
    // Not fetch(): a request for a document parses markup without a string ever becoming
    // markup in this page, which the page's policy forbids.
    const request = new XMLHttpRequest();
    // The address says what is shown beside the targets.
    request.open("GET", `page/live${location.search}`);
    request.responseType = "document";
    request.timeout = 5000;
    request.onload = () => {
      const next = request.status === 200 && request.response?.querySelector(".live");
      if (next) take(next);
      fetched = Boolean(next);
    };
    request.onerror = request.ontimeout = () => { fetched = false; };
    request.onloadend = () => {
      fetching = false;
      showLink();
      if (again) {
        again = false;
        // A thousand transitions in a second are not a thousand pictures.
        timer = setTimeout(refresh, refreshMs() / 20);
      } else {
        schedule();
      }
    };
    request.send();
  }

  function refreshMs() {
    return Number(live().dataset.refreshMs) || 2000;
  }

  function schedule() {
    clearTimeout(timer);
    // A hidden page is woken by transitions alone; that keeps its title and icon true.
    if (document.visibilityState === "visible" || !fetched) {
      timer = setTimeout(refresh, refreshMs());
    }
  }

  function take(next) {
    // The program was replaced: its page may need other styles and another script.
    if (next.dataset.version !== version) {
      location.reload();
      return;
    }
    const before = healths();
    morph(live(), next);
    filter();
    tell(before);
  }

  /* ---- What changed ---- */

  function healths() {
    const known = new Map();
    for (const tile of main.querySelectorAll(".tile")) known.set(tile.dataset.name, tile.dataset.health);
    return known;
  }

  function tell(before) {
    const changed = new Map();
    for (const tile of main.querySelectorAll(".tile")) {
      const { name, health } = tile.dataset;
      if (!before.has(name) || before.get(name) === health) continue;
      const reason = tile.querySelector(".reason")?.textContent;
      changed.set(name, `${name} is ${health}${reason ? `: ${reason}` : ""}.`);
      tile.dataset.changed = "";
      setTimeout(() => delete tile.dataset.changed, 4000);
    }
    if (changed.size === 0) return;
    const few = [...changed.values()].slice(0, 3);
    if (changed.size > few.length) few.push(`${changed.size - few.length} others changed.`);
    say(`${few.join(" ")} The platform is ${live().dataset.health}.`);
  }

  // Sentences are added and not replaced: one that follows quickly must not swallow the first.
  function say(sentence) {
    const line = document.createElement("p");
    line.textContent = sentence;
    announce.append(line);
    while (announce.childElementCount > 5) announce.firstElementChild.remove();
  }

  /* ---- The stream, and whether what is shown is true now ---- */

  let stream;
  let streaming = false;
  let closed = 0;

  function open() {
    stream?.close();
    stream = new EventSource("api/v1/events");
    stream.onopen = () => {
      streaming = true;
      closed = 0;
      showLink();
    };
    stream.addEventListener("snapshot", refresh);
    stream.addEventListener("transition", refresh);
    stream.onerror = () => {
      streaming = false;
      showLink();
      // The browser tries again by itself, unless the server answered with an error.
      if (stream.readyState === EventSource.CLOSED) {
        setTimeout(open, Math.min(10000, 500 * 2 ** closed++));
      }
    };
  }

  // Fetched while there is somebody to fetch it from: a lost page must not keep a green icon.
  let lostIcon = "";
  fetch(live().dataset.icon.replace(/\w+\.svg/, "unknown.svg"))
    .then((answer) => (answer.ok ? answer.text() : Promise.reject(answer.status)))
    .then((svg) => { lostIcon = `data:image/svg+xml,${encodeURIComponent(svg)}`; })
    .catch(() => {});

  function showLink() {
    const state = streaming && fetched ? "live" : "lost";
    const was = document.documentElement.dataset.link;
    const { title, icon: address, at } = live().dataset;
    if (state === "live") {
      if (document.title !== title) document.title = title;
      if (icon.getAttribute("href") !== address) icon.setAttribute("href", address);
    }
    if (state === was) return;
    document.documentElement.dataset.link = state;
    if (state === "live") {
      link.textContent = "live";
      lost.textContent = "";
      if (was === "lost") say(`Connected again. The platform is ${live().dataset.health}.`);
    } else {
      link.textContent = "reconnecting";
      lost.textContent = `Connection lost. This is how it was at ${at} UTC.`;
      document.title = "(?) stale – comind-ops";
      if (lostIcon) icon.setAttribute("href", lostIcon);
      refresh();
    }
  }

  /* ---- The filter ---- */

  const form = document.getElementById("filter");
  const find = document.getElementById("find");
  const only = document.getElementById("only");
  const found = document.getElementById("found");

  function filter() {
    form.hidden = Number(live().dataset.count) <= 12;
    const text = form.hidden ? "" : find.value.trim().toLowerCase();
    const wanted = form.hidden ? "" : only.value;
    const shown = new Set();
    for (const section of main.querySelectorAll(".group")) {
      let any = false;
      for (const tile of section.querySelectorAll(".tile")) {
        const { name, kind, health } = tile.dataset;
        const fits = (!text || name.toLowerCase().includes(text) || kind.includes(text))
          && (!wanted || (wanted === "unwell" ? health !== "up" : health === wanted));
        tile.hidden = !fits;
        any ||= fits;
        if (fits) shown.add(name);
      }
      section.hidden = !any;
    }
    const all = Number(live().dataset.count);
    const words = text || wanted ? `${shown.size} of ${all}` : "";
    if (found.textContent !== words) found.textContent = words;
  }

  find.addEventListener("input", filter);
  only.addEventListener("change", filter);
  find.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    find.value = "";
    filter();
  });
  // A named target may be hidden by the filter: show it before the browser looks for it.
  main.addEventListener("click", (event) => {
    const target = event.target.closest("a[href^='#']");
    if (target && document.getElementById(target.hash.slice(1))?.hidden) {
      find.value = only.value = "";
      filter();
    }
  });

  // Whoever changes something wants to see it.
  document.addEventListener("refresh", refresh);

  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") refresh();
  });

  // A browser may keep a page that was left, with its stream, and browsers open only few
  // connections to one server: a page that is left lets go of its own.
  window.addEventListener("pagehide", () => {
    stream.close();
    streaming = false;
  });
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    open();
    refresh();
  });

  filter();
  link.textContent = "connecting";
  open();
  schedule();
}
