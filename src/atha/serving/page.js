"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const SHOWN = 5, TRIES = 6, CARDS = 300;
  const state = { token: "", about: null, waiting: [], busy: false, done: 0, asked: 0 };

  function make(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = visible(text);
    return made;
  }
  const percent = (value) => `${(100 * value).toFixed(1)}%`;
  const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

  function takeToken() {
    const found = /^#token=(.+)$/.exec(location.hash);
    if (!found) return;
    try { state.token = decodeURIComponent(found[1]); } catch { state.token = found[1]; }
    history.replaceState(null, "", location.pathname);
  }

  async function ask(path, form) {
    const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
    for (let attempt = 1; ; attempt += 1) {
      let response;
      try {
        response = await fetch(path, form ? { method: "POST", body: form, headers } : { headers });
      } catch {
        throw new Error("The service cannot be reached. Is it still running?");
      }
      if (response.status === 429 && attempt < TRIES) {
        await pause(Number(response.headers.get("Retry-After")) || 1);
        continue;
      }
      if (response.status === 401) byId("token-form").hidden = false;
      return response;
    }
  }

  async function sentence(response) {
    try { return (await response.json()).error; } catch { return `The service answered with ${response.status}.`; }
  }

  function problem(text) {
    byId("problem").textContent = visible(text);
    byId("problem").hidden = !text;
  }

  async function learn() {
    let response;
    try { response = await ask("/info"); } catch (error) { byId("about").textContent = error.message; return; }
    if (!response.ok) {
      byId("about").textContent = response.status === 401 ? "" : visible(await sentence(response));
      return;
    }
    byId("token-form").hidden = true;
    problem("");
    const about = state.about = await response.json();
    const names = Object.keys(about.classes);
    const few = names.length > 6 ? `${names.slice(0, 6).join(", ")} and ${names.length - 6} more` : names.join(", ");
    const parts = [`${names.length} classes: ${few}.`];
    if (about.evaluation) {
      const [low, high] = about.evaluation.interval95.map((value) => (100 * value).toFixed(0));
      parts.push(`Accuracy ${percent(about.evaluation.accuracy)} (95% interval ${low} to ${high}) on ${about.evaluation.images} images.`);
    } else {
      parts.push("How often it is right was not measured.");
    }
    byId("about").textContent = visible(parts.join(" "));
    byId("votes-choice").hidden = about.members.length < 2;
    if (state.waiting.length) work();
  }

  function card(file) {
    const made = make("article", "card");
    const photo = make("div", "photo");
    const image = make("img");
    image.alt = visible(`picture ${file.name}`);
    const address = URL.createObjectURL(file);
    image.onerror = () => photo.replaceChildren(make("span", "soft", "no preview of this kind of file"));
    image.src = address;
    photo.append(image);
    const inside = make("div", "inside");
    inside.append(make("p", "file", file.name), make("p", "soft", "waiting …"));
    made.append(photo, inside);
    made.forget = () => URL.revokeObjectURL(address);
    byId("results").prepend(made);
    while (byId("results").children.length > CARDS) {
      byId("results").lastElementChild.forget();
      byId("results").lastElementChild.remove();
    }
    return { file, inside };
  }

  function bars(list, rows) {
    list.replaceChildren(...rows.map(([name, value]) => {
      const row = make("li"), words = make("div", "words"), track = make("div", "track"), bar = make("div");
      words.append(make("span", "", name), make("span", "", percent(value)));
      bar.style.width = percent(value);
      track.append(bar);
      row.append(words, track);
      return row;
    }));
  }

  function votes(found) {
    const table = make("table");
    table.append(make("caption", "", "What each member says by itself"));
    for (const [member, row] of Object.entries(found)) {
      const [name, value] = Object.entries(row).sort((a, b) => b[1] - a[1])[0];
      const line = make("tr"), head = make("th", "", member);
      head.scope = "row";
      line.append(head, make("td", "", name), make("td", "", percent(value)));
      table.append(line);
    }
    return table;
  }

  function mapButton(item, label) {
    const button = make("button", "", "Where it looks");
    button.type = "button";
    button.onclick = async () => {
      button.disabled = true;
      button.textContent = "Looking …";
      const form = new FormData();
      form.append("image", item.file, item.file.name);
      try {
        const response = await ask(`/explain?label=${encodeURIComponent(label)}`, form);
        if (!response.ok) throw new Error(await sentence(response));
        const image = make("img", "map");
        image.alt = visible(`similarity of the patches of ${item.file.name} to ${label}`);
        image.src = URL.createObjectURL(await response.blob());
        image.onload = () => URL.revokeObjectURL(image.src);
        const words = "Colour: similarity of each patch to the class, summed over the blocks. Ring: closest to any class; cross: farthest from all.";
        button.replaceWith(image, make("p", "soft", words));
      } catch (error) {
        button.replaceWith(make("p", "bad", error.message));
      }
    };
    return button;
  }

  function show(item, found) {
    const name = make("p", "file", item.file.name);
    if (found.error) {
      item.inside.replaceChildren(name, make("p", "bad", found.error));
      return;
    }
    const rows = Object.entries(found.probabilities).sort((a, b) => b[1] - a[1]);
    const answer = make("p", "answer"), list = make("ul", "bars");
    answer.append(make("span", "", found.label), make("span", "", percent(found.probability)));
    bars(list, rows.slice(0, SHOWN));
    item.inside.replaceChildren(name, answer, list);
    if (rows.length > SHOWN) {
      const more = make("button", "plain", `all ${rows.length} classes`);
      more.type = "button";
      more.onclick = () => { bars(list, rows); more.remove(); };
      item.inside.append(more);
    }
    if (found.votes) item.inside.append(votes(found.votes));
    if (state.about.maps) item.inside.append(mapButton(item, found.label));
  }

  async function send(items) {
    const form = new FormData();
    for (const item of items) form.append("image", item.file, item.file.name);
    const response = await ask(byId("votes").checked ? "/predict?votes=1" : "/predict", form);
    if (response.status === 401) return false;
    const content = await response.json().catch(() => ({ error: `The service answered with ${response.status}.` }));
    items.forEach((item, place) => show(item, content.predictions ? content.predictions[place] : { error: content.error }));
    return true;
  }

  function next() {
    const { images, image_bytes: each, request_bytes: all } = state.about.limits;
    const items = [];
    let bytes = 0;
    while (state.waiting.length && items.length < images) {
      const item = state.waiting[0];
      if (item.file.size > each) {
        state.waiting.shift();
        state.done += 1;
        show(item, { error: `The file has ${(item.file.size / 1e6).toFixed(1)} MB, the limit is ${(each / 1e6).toFixed(0)} MB: make the image smaller.` });
        continue;
      }
      if (items.length && bytes + item.file.size + 1000 > 0.95 * all) break;
      bytes += item.file.size + 1000;
      items.push(state.waiting.shift());
    }
    return items;
  }

  async function work() {
    if (state.busy || !state.about) return;
    state.busy = true;
    problem("");
    while (state.waiting.length) {
      const items = next();
      if (!items.length) continue;
      byId("status").textContent = `${state.done} of ${state.asked} …`;
      try {
        if (!(await send(items))) { state.waiting.unshift(...items); break; }
      } catch (error) {
        problem(error.message);
        for (const item of items) show(item, { error: "not sent" });
      }
      state.done += items.length;
    }
    state.busy = false;
    byId("status").textContent = state.waiting.length ? "" : `${state.done} of ${state.asked} done.`;
  }

  function take(files) {
    const items = [...files].map(card);
    if (!items.length) return;
    state.waiting.push(...items);
    state.asked += items.length;
    byId("clear").hidden = false;
    work();
  }

  byId("files").onchange = (event) => { take(event.target.files); event.target.value = ""; };
  byId("clear").onclick = () => {
    for (const one of byId("results").children) one.forget();
    byId("results").replaceChildren();
    state.waiting = [];
    state.done = state.asked = 0;
    byId("status").textContent = "";
    byId("clear").hidden = true;
    problem("");
  };
  byId("token-form").onsubmit = (event) => {
    event.preventDefault();
    state.token = byId("token").value.trim();
    learn().then(() => { if (!state.about) problem("That is not the token."); });
  };
  let depth = 0;
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      depth = kind === "drop" ? 0 : depth + (kind === "dragenter") - (kind === "dragleave");
      byId("drop").classList.toggle("over", depth > 0);
      if (kind === "drop") take(event.dataTransfer.files);
    });
  }
  document.addEventListener("paste", (event) => take(event.clipboardData.files));
  takeToken();
  learn();
})();
