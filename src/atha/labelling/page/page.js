"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const KEYS = [..."1234567890abcdefghijklmopqrtvwyz"]; // without those of the tools: n, s, u, x
  const KEPT = 240, ROWS = 60;
  const token = (/^#token=(.+)$/.exec(location.hash) || [])[1] || "";
  const random = () => [...crypto.getRandomValues(new Uint8Array(12))].map((one) => one.toString(16).padStart(2, "0")).join("");
  const state = { tab: random(), photos: [], fixing: null, shown: null, ready: false, busy: false, status: null, pending: null, rows: ROWS, sent: 0 };
  const pictures = new Map();

  function make(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = visible(text);
    return made;
  }
  function draw(tag, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = visible(text);
    return made;
  }
  const percent = (value) => `${(100 * value).toFixed(1)}%`;
  const number = (value) => value.toLocaleString("en");
  const show = (id, shown) => { byId(id).toggleAttribute("hidden", !shown); };

  function tell(id, text) {
    byId(id).textContent = visible(text);
    show(id, Boolean(text));
  }
  const problem = (text) => tell("problem", text);
  const say = (text) => { byId("said").textContent = visible(text || "\u00a0"); };

  async function ask(path, content, keepalive) {
    const headers = { Authorization: `Bearer ${token}` };
    if (content) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(path, content ? { method: "POST", body: JSON.stringify(content), headers, keepalive } : { headers });
    } catch {
      throw new Error("atha label does not answer. What was labelled is saved: start the same command again, and open the address that it prints.");
    }
    if (response.status === 401) throw new Error("This page is of an atha label that has ended, or its address is not whole. Open the address that atha label prints.");
    return response;
  }

  async function sentence(response) {
    try { return (await response.json()).error; } catch { return `atha label answered with ${response.status}.`; }
  }

  function picture(place, size) {
    const key = `${place}/${size}`;
    let found = pictures.get(key);
    if (found) {
      pictures.delete(key);
    } else {
      found = (async () => {
        const response = await ask(`/photo/${key}`);
        if (!response.ok) throw new Error(await sentence(response));
        return URL.createObjectURL(await response.blob());
      })();
      found.catch(() => pictures.delete(key));
    }
    pictures.set(key, found);
    if (pictures.size > KEPT) {
      const [oldest, address] = pictures.entries().next().value;
      pictures.delete(oldest);
      address.then((made) => URL.revokeObjectURL(made), () => {});
    }
    return found;
  }

  const current = () => state.fixing || state.photos[0] || null;

  async function showCurrent() {
    const photo = current();
    byId("stage").classList.toggle("fixing", Boolean(state.fixing));
    show("back", Boolean(state.fixing));
    byId("name").textContent = photo ? visible(state.fixing ? `Correct: ${photo.name}` : photo.name) : "\u00a0";
    byId("name").title = photo ? visible(photo.name) : "";
    markClass(photo);
    if (photo && state.shown && state.shown.place === photo.place && state.ready) { state.shown = photo; return; }
    state.shown = photo;
    state.ready = false;
    show("picture", false);
    if (!photo) {
      const done = state.status;
      const left = done && done.labelled + done.none + done.skipped + done.unreadable + done.copies < done.photos;
      tell("wait", !done || left ? "Choosing the next photos …" : "That was the last photo: all are labelled or passed over.");
      return;
    }
    tell("wait", "Loading …");
    try {
      const address = await picture(photo.place, "large");
      if (state.shown !== photo) return;
      const image = byId("picture");
      image.alt = visible(`photo ${photo.name}`);
      image.src = address;
      await image.decode();
      if (state.shown !== photo) return;
      show("wait", false);
      show("picture", true);
    } catch (error) {
      if (state.shown !== photo) return;
      tell("wait", `${error.message} Skip it to go on.`);
    }
    state.ready = true;
    document.body.dataset.place = photo.place;
    for (const next of state.photos.slice(1)) picture(next.place, "large").catch(() => {});
  }

  function markClass(photo) {
    [...byId("classes").children].forEach((button, index) => button.classList.toggle("is", Boolean(photo) && photo.class === index));
    for (const button of byId("earlier").querySelectorAll("button"))
      button.classList.toggle("is", Boolean(state.fixing) && Number(button.dataset.place) === state.fixing.place);
  }

  function take(found) {
    if (found.photos) state.photos = found.photos;
    if (found.status) showStatus(found.status);
  }

  // Sent again, what is not answered counts once: it keeps its name as long as it is the same.
  function named(what) {
    const key = JSON.stringify(what);
    if (!state.pending || state.pending.key !== key) state.pending = { key, press: random() };
    return { ...what, press: state.pending.press, tab: state.tab, keep: state.photos.map((photo) => photo.place) };
  }

  async function send(path, what, done) {
    if (state.busy) return;
    state.busy = true;
    state.sent += 1;
    try {
      const response = await ask(path, named(what));
      if (response.status >= 500 || response.status === 429) throw new Error(await sentence(response));
      const found = await response.json();
      state.pending = null;
      take(found);
      problem(response.ok ? "" : found.error || "This was not taken.");
      if (response.ok) done(found);
      else if (found.now) { state.fixing = null; }
    } catch (error) {
      problem(`${error.message} Nothing is lost: press again when it answers.`);
    } finally {
      state.busy = false;
    }
    showCurrent();
    refresh();
  }

  function press(kind, index) {
    const photo = current();
    if (!photo || !state.ready || state.busy) return;
    const label = kind === "label" ? state.status.classes[index].label : "";
    send("/press", { place: photo.place, kind, number: kind === "label" ? index : null, seen: photo.seen }, () => {
      const said = { label: `Labelled '${label}'.`, none: "Marked as none of the classes.", skip: "Skipped; it stays in the list." }[kind];
      say(said);
      state.fixing = null;
    });
  }

  function undo() {
    if (!state.status || !state.status.last) { say("There is nothing to undo."); return; }
    send("/undo", { expected: state.status.last }, (found) => {
      const shown = found.shown;
      state.fixing = null;
      say(shown && shown.kind ? "Undone: an earlier photo is as it was before." : "Undone: here it is again.");
    });
  }

  function newClass(open) {
    show("new", open);
    if (open) byId("label").focus();
    else { byId("label").value = ""; byId("label").blur(); }
  }

  function showClasses(classes) {
    const box = byId("classes");
    while (box.children.length > classes.length) box.lastChild.remove();
    classes.forEach((one, index) => {
      let button = box.children[index];
      if (!button) {
        button = make("button");
        button.type = "button";
        if (KEYS[index]) button.append(make("kbd", "", KEYS[index]));
        button.append(make("span", "word", one.label), make("span", "count"));
        button.addEventListener("click", () => { button.blur(); press("label", index); });
        box.append(button);
      }
      button.querySelector(".count").textContent = number(one.count);
    });
  }

  function showStatus(status) {
    state.status = status;
    showClasses(status.classes);
    markClass(current());
    const parts = [`${number(status.labelled)} of ${number(status.photos)} photos labelled`];
    if (status.none) parts.push(`${number(status.none)} none of the classes`);
    if (status.skipped) parts.push(`${number(status.skipped)} skipped`);
    byId("progress").textContent = visible(`${parts.join(", ")}. Saved in ${status.table}.`);
    const looked = status.looked;
    const looking = looked < status.photos && !status.problem;
    show("looked", looking);
    byId("looked").max = status.photos;
    byId("looked").value = looked;
    const odd = [];
    if (looking) odd.push(`The model has looked at ${number(looked)} of ${number(status.photos)} photos; label meanwhile.`);
    if (status.copies) odd.push(`${number(status.copies)} are copies of others and are passed over.`);
    if (status.unreadable) odd.push(`${number(status.unreadable)} cannot be read and are passed over.`);
    tell("looking", odd.join(" "));
    const known = status.estimate;
    byId("estimate").textContent = known
      ? `${percent(known.accuracy)} (95% interval ${percent(known.interval[0])} to ${percent(known.interval[1])})`
      : "Not known yet.";
    byId("advice").textContent = visible(status.advice);
    const weakest = status.weakest && status.weakest[2]
      ? `'${status.weakest[0]}': ${status.weakest[1]} of its ${status.weakest[2]} labelled photos are told right while they are held out.` + (known ? ` The estimate rests on ${known.images} photos drawn at random.` : "")
      : "";
    byId("weakest").textContent = visible(weakest);
    tell("adapted", status.adapted);
    tell("trouble", status.problem);
    showCurve(status.curve, status.led);
  }

  function showCurve(points, led) {
    const svg = byId("curve");
    show("curve", points.length > 1);
    if (points.length < 2) return;
    const left = 40, right = 350, top = 10, bottom = 140;
    const first = points[0][0], last = points[points.length - 1][0];
    const x = (labels) => left + (right - left) * (labels - first) / (last - first || 1);
    const y = (share) => bottom - (bottom - top) * share;
    const at = (labels, share) => `${x(labels).toFixed(1)},${y(share).toFixed(1)}`;
    const drawn = [];
    for (const share of [0, 0.5, 1]) {
      drawn.push(draw("line", { class: "grid", x1: left, x2: right, y1: y(share), y2: y(share) }));
      drawn.push(draw("text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share}%`));
    }
    drawn.push(draw("text", { x: left, y: bottom + 16 }, number(first)));
    drawn.push(draw("text", { x: right, y: bottom + 16, "text-anchor": "end" }, `${number(last)} labels`));
    if (led !== null) {
      const since = Math.max(led, first), side = x(since) > (left + right) / 2;
      drawn.push(draw("line", { class: "since", x1: x(since), x2: x(since), y1: top, y2: bottom }));
      drawn.push(draw("text", { x: x(since) + (side ? -5 : 5), y: bottom - 6, "text-anchor": side ? "end" : "start" }, "adapted"));
    }
    const upper = points.map((one) => at(one[0], one[3])), lower = points.map((one) => at(one[0], one[2])).reverse();
    drawn.push(draw("polygon", { class: "band", points: [...upper, ...lower].join(" ") }));
    drawn.push(draw("polyline", { class: "line", points: points.map((one) => at(one[0], one[1])).join(" ") }));
    const end = points[points.length - 1];
    drawn.push(draw("circle", { class: "dot", cx: x(end[0]), cy: y(end[1]), r: 3.5 }));
    svg.replaceChildren(...drawn);
    svg.setAttribute("aria-label", `Accuracy as labels came in: ${percent(end[1])} at ${end[0]} labels, from ${percent(points[0][1])} at ${first}`);
  }

  let listing = 0;
  async function refresh() {
    const turn = ++listing;
    try {
      const rows = [];
      let before = 0;
      while (rows.length < state.rows) {
        const response = await ask(`/earlier?before=${before}`);
        if (!response.ok || turn !== listing) return;
        const found = (await response.json()).earlier;
        rows.push(...found);
        if (found.length < ROWS) break;
        before = found[found.length - 1].seen;
      }
      if (turn !== listing) return;
      show("more", rows.length >= state.rows);
      show("empty", rows.length === 0);
      const there = new Map([...byId("earlier").children].map((item) => [item.dataset.name, item]));
      byId("earlier").replaceChildren(...rows.slice(0, state.rows).map((row) => listed(row, there.get(row.name))));
      markClass(current());
    } catch (error) { problem(error.message); }
  }

  function listed(row, item) {
    const label = row.kind === "label" ? state.status.classes[row.class].label : { none: "none of these", skip: "skipped" }[row.kind];
    if (!item) {
      item = make("li");
      item.dataset.name = row.name;
      const button = make("button"), frame = make("span", "frame");
      button.type = "button";
      button.dataset.place = row.place;
      button.append(frame, make("span", "word"));
      if (row.place === null) {
        frame.append(make("span", "soft", "not in the pile"));
        button.disabled = true;
      } else {
        const image = make("img");
        image.alt = "";
        picture(row.place, "small").then((address) => { image.src = address; frame.append(image); }, () => frame.append(make("span", "soft", "no preview")));
      }
      button.addEventListener("click", () => { button.blur(); fix(item.row); });
      item.append(button);
    }
    item.row = row;
    const word = item.querySelector(".word");
    word.textContent = visible(label);
    word.classList.toggle("other", row.kind !== "label");
    item.querySelector("button").title = visible(`${row.name}: ${label}`);
    return item;
  }

  function fix(row) {
    if (state.busy) return;
    state.fixing = row;
    problem("");
    say("Choose what it is, or go back with Escape.");
    showCurrent();
    byId("stage").scrollIntoView({ block: "nearest" });
  }

  function leaveFixing() {
    state.fixing = null;
    say("");
    showCurrent();
  }

  async function next() {
    if (state.busy || document.hidden) return;
    const sent = state.sent; // what was answered before a press would show its photo again
    try {
      const response = await ask("/next", { tab: state.tab, keep: state.photos.map((photo) => photo.place) });
      const found = response.ok ? await response.json() : null;
      if (found && sent === state.sent) {
        take(found);
        showCurrent();
      } else if (!response.ok) problem(await sentence(response));
    } catch (error) { problem(error.message); }
  }

  async function watch() {
    if (!document.hidden) {
      if (state.photos.length < 3) await next();
      else {
        try {
          const sent = state.sent, response = await ask("/status");
          const found = response.ok ? await response.json() : null;
          if (found && sent === state.sent) showStatus(found.status);
        } catch (error) { problem(error.message); }
      }
    }
    setTimeout(watch, state.photos.length ? 1500 : 400);
  }

  byId("undo").addEventListener("click", undo);
  byId("skip").addEventListener("click", () => press("skip"));
  byId("none").addEventListener("click", () => press("none"));
  byId("add").addEventListener("click", () => newClass(true));
  byId("cancel").addEventListener("click", () => newClass(false));
  byId("back").addEventListener("click", leaveFixing);
  byId("more").addEventListener("click", () => { state.rows += ROWS; refresh(); });
  byId("new").addEventListener("submit", (event) => {
    event.preventDefault();
    const label = byId("label").value.trim();
    if (label) send("/class", { label }, () => { newClass(false); say(`There is a class '${label}'.`); });
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (event.key === "Escape") {
      if (!byId("new").hidden) newClass(false);
      else if (state.fixing) leaveFixing();
      return;
    }
    if (event.target.closest("input") || event.repeat) return;
    const key = event.key.toLowerCase(), index = KEYS.indexOf(key);
    if (key === "u") undo();
    else if (key === "s") press("skip");
    else if (key === "x") press("none");
    else if (key === "n") newClass(true);
    else if (index >= 0 && state.status && index < state.status.classes.length) press("label", index);
    else return;
    event.preventDefault();
  });
  // Others may have the photos of a tab that is closed or loaded again.
  addEventListener("pagehide", () => { ask("/leave", { tab: state.tab }, true).catch(() => {}); });
  addEventListener("pageshow", (event) => { if (event.persisted) { state.photos = []; next(); } });
  next().then(refresh).then(watch);
})();
