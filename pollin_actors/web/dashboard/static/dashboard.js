// Everything works without this, but for pages that change by themselves and copying.
"use strict";

(() => {
  const policy = window.trustedTypes
    ? window.trustedTypes.createPolicy("pollin", { createHTML: (html) => html })
    : { createHTML: (html) => html };

  // What the server sends is made by its templates, where all that senders sent is text.
  const parse = (html) =>
    new DOMParser().parseFromString(policy.createHTML(`<template>${html}</template>`), "text/html")
      .querySelector("template").content;

  // -- copying ----------------------------------------------------------------------------------

  for (const button of document.querySelectorAll("button[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy).textContent;
      try {
        await navigator.clipboard.writeText(text);
        say("Copied.");
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      } catch {
        say("It could not be copied: select it and copy it yourself.");
      }
    });
  }

  // -- live -------------------------------------------------------------------------------------

  const announce = document.getElementById("announce");
  let said = 0;
  function say(text) {
    const now = Date.now();
    if (now - said < 3000 && announce.textContent) return; // no flood for who listens
    said = now;
    announce.textContent = text;
  }

  // As the server has sent it: what a visitor has opened meanwhile is no difference.
  const sources = new WeakMap();
  const source = (element) => sources.get(element) ?? element.outerHTML;
  function remember(root) {
    sources.set(root, root.outerHTML);
    for (const element of root.querySelectorAll("[data-key]")) sources.set(element, element.outerHTML);
  }

  function busy(element) {
    const focused = document.activeElement;
    return focused && focused !== element && element.contains(focused)
      && /^(INPUT|SELECT|TEXTAREA)$/.test(focused.tagName);
  }

  // Which of the things that can have it has the focus, and giving it to the one that is there now.
  const focusable = (element) => [...element.querySelectorAll("a, button, summary, [tabindex]")];
  const focusIn = (element) => focusable(element).indexOf(document.activeElement);
  const focusOn = (element, place) => focusable(element)[place]?.focus({ preventScroll: true });

  // Keeps what has not changed, so that focus, selection and what is open stay.
  function update(old, fresh) {
    const rows = old.querySelector(":scope > [data-list], :scope > table > [data-list]");
    const freshRows = fresh.querySelector(":scope > [data-list], :scope > table > [data-list]");
    const [from, to] = rows && freshRows ? [rows, freshRows] : [old, fresh];
    const known = new Map();
    for (const child of from.children) if (child.dataset.key) known.set(child.dataset.key, child);
    const wanted = [...to.childNodes];
    if (!wanted.some((node) => node.dataset && known.has(node.dataset.key))) {
      const added = wanted.filter((node) => node.dataset && node.dataset.key).length;
      const had = known.size;
      const place = focusIn(from);
      from.replaceChildren(...wanted);
      focusOn(from, place);
      from.querySelectorAll("[data-key]").forEach((element) => sources.set(element, element.outerHTML));
      return had ? added : 0;
    }
    let added = 0;
    let place = from.firstChild;
    const keep = new Set();
    for (const node of wanted) {
      const key = node.dataset && node.dataset.key;
      if (!key) continue;
      let element = known.get(key);
      if (!element) {
        element = node;
        sources.set(element, node.outerHTML);
        if (element.tagName === "TR") element.classList.add("fresh");
        added += 1;
      } else if (source(element) !== node.outerHTML && !busy(element)) {
        if (element.querySelector(":scope > table > [data-list]")) {
          sources.set(element, node.outerHTML);
          added += update(element, node);
        } else {
          const open = element.querySelector("details[open]") !== null;
          const focus = focusIn(element);
          sources.set(node, node.outerHTML);
          element.replaceWith(node);
          if (place === element) place = node;
          if (open && node.querySelector("details")) node.querySelector("details").open = true;
          focusOn(node, focus);
          element = node;
        }
      }
      keep.add(element);
      if (element === place) place = place.nextSibling;
      else from.insertBefore(element, place);
      while (place && place.nodeType !== Node.ELEMENT_NODE) place = place.nextSibling;
    }
    for (const child of [...from.children]) if (!keep.has(child)) child.remove();
    return added;
  }

  function apply(parts) {
    for (const [name, html] of Object.entries(parts)) {
      const element = document.getElementById(name);
      if (!element || busy(element)) continue;
      const holder = document.createElement("div");
      holder.append(parse(html));
      const added = update(element, holder);
      const what = element.dataset.announce;
      if (added && what) say(added === 1 ? `1 ${what}` : `${added} ${what}s`);
    }
  }

  const button = document.getElementById("live");
  if (!document.body.dataset.live || !button || !window.EventSource) return;
  document.querySelectorAll("[id^=live_]").forEach(remember);

  let events = null;
  let paused = false;
  let ended = false;
  let again = null;
  let doubt = null;

  function show(state, text) {
    clearTimeout(doubt);
    button.dataset.state = state;
    button.querySelector(".text").textContent = text;
    button.setAttribute("aria-pressed", String(!paused));
  }

  function begin() {
    clearTimeout(again);
    if (events || paused || ended || document.hidden) return;
    const url = new URL(window.location.href);
    url.searchParams.delete("done");
    url.searchParams.set("stream", "1");
    url.hash = "";
    events = new EventSource(url);
    show("waiting", "Connecting");
    events.addEventListener("open", () => show("live", "Live"));
    events.addEventListener("parts", (event) => {
      show("live", "Live");
      apply(JSON.parse(event.data));
    });
    events.addEventListener("problem", (event) => show("waiting", JSON.parse(event.data).text));
    events.addEventListener("end", () => {
      ended = true;
      stop();
      button.hidden = true;
    });
    events.addEventListener("error", () => {
      // It comes again by itself, unless it was refused.
      if (events && events.readyState === EventSource.CLOSED) {
        stop();
        show("waiting", "Not live");
        again = setTimeout(begin, 10000);
      } else if (!ended) {
        // A stream ends after a minute and begins anew: nobody is to be told of that.
        clearTimeout(doubt);
        doubt = setTimeout(() => show("waiting", "Connecting"), 3000);
      }
    });
  }

  function stop() {
    if (events) events.close();
    events = null;
  }

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    if (paused) {
      stop();
      show("paused", "Paused");
    } else {
      begin();
    }
  });
  // Who does not look needs no stream.
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : begin()));
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", begin);
  begin();
})();
