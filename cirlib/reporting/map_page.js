// What the map does (map_page.py): Bokeh draws, hovers, pans and zooms; here are colours, sounds, search, mixtures and the keyboard.
"use strict";
(async () => {
  const $ = id => document.getElementById(id);
  const read = id => JSON.parse($(id).textContent);
  const {families, instruments, mixtures} = read("data");
  const count = instruments.length;
  const name = k => (k < count ? instruments[k] : mixtures[k - count]).name;  // k: an instrument, or behind all of them a mixture
  const familyOf = item => families[item.family];
  const few = n => n.toLocaleString("en");

  // Elements: text goes in as text, whatever it holds.
  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const drawing = (tag, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  // The plot.
  const item = read("plot-data");
  const plot = (await Bokeh.embed.embed_item(item)).get_by_id(item.root_id).model;
  const model = id => plot.document.get_model_by_name(id);
  const view = {shown: model("shown"), x: plot.x_range, y: plot.y_range};
  const home = {x: [view.x.start, view.x.end], y: [view.y.start, view.y.end]};
  const column = (list, key) => list.map(item => item[key]);
  const unique = list => [...new Set(list)];
  model("instruments").data = {
    x: column(instruments, "x"), y: column(instruments, "y"), name: column(instruments, "name"), source: column(instruments, "source"),
    family: instruments.map(i => familyOf(i).name), marker: instruments.map(i => familyOf(i).marker),
    angle: instruments.map(i => familyOf(i).angle), fill: instruments.map(() => "#888"), line: instruments.map(() => "#888"),
  };
  model("mixtures").data = {
    x: column(mixtures, "x"), y: column(mixtures, "y"), name: column(mixtures, "name"),
    instruments: mixtures.map(m => unique(m.matches.map(a => a[0])).map(name).join(", ")),
  };

  // Light and dark, also while the page is open.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = key => style.getPropertyValue("--" + key).trim();
    const mode = dark.matches ? "dark" : "light";
    const source = model("instruments");
    source.data = {...source.data, fill: instruments.map(i => familyOf(i)[mode]), line: instruments.map(() => colour("ink"))};
    for (const end of ["line", "end", "text"]) for (const kind of ["true", "best"]) {
      const glyph = model(kind + "_" + end).glyph;
      if (end === "text") glyph.setv({text_color: {value: colour(kind)}, background_fill_color: {value: colour("paper")}});
      else glyph.line_color = {value: colour(kind)};
    }
    model("from_end").glyph.line_color = {value: colour("true")};
    model("chosen_end").glyph.line_color = {value: "#2f7de1"};
    model("mixture").glyph.line_color = {value: colour("mixture")};
    for (const path of $("families").querySelectorAll("[data-family]")) path.setAttribute("fill", families[path.dataset.family][mode]);
  };

  // Sounds: one player; the data of a sound is looked at when it is played.
  const audio = $("audio"), playing = $("playing");
  let sounds = null, current = null;
  const kind = k => k < count ? familyOf(instruments[k]).name : "mixture";
  const show = word => { playing.textContent = `${word} ${name(current)} (${kind(current)})`; };
  const play = k => {
    sounds ??= read("sounds");
    current = k;
    audio.src = "data:audio/mpeg;base64," + sounds[k];
    audio.play().catch(error => { if (error.name !== "AbortError") show("This browser cannot play"); });
  };
  audio.addEventListener("play", () => show("Playing"));
  audio.addEventListener("pause", () => show("Paused"));
  audio.addEventListener("ended", () => show("Played"));
  audio.addEventListener("error", () => show("This browser cannot play"));

  // Search and families: what is shown.
  const boxes = [], list = $("list");
  let shown = [], chosen = null, selected = null;
  const ends = () => selected === null ? [] : mixtures[selected].matches.flatMap(a => [a[0], a[2]]);
  const mixturesBox = () => boxes[families.length];
  const swatch = (i, f) => {
    const shapes = {
      circle: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", square: "M-4-4h8v8h-8z", diamond: "M0-5L4 0L0 5L-4 0z", triangle: "M0-5L4.5 3.5h-9z",
      inverted_triangle: "M0 5L4.5-3.5h-9z", plus: "M-1.5-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
      hex: "M-2-4h4l2.3 4l-2.3 4h-4l-2.3-4z",
      star: "M0-5.5L1.4-1.8L5.2-1.7L2.2.7L3.2 4.4L0 2.3L-3.2 4.4L-2.2.7L-5.2-1.7L-1.4-1.8z",
      asterisk: "M0-5V5M-5 0H5M-3.5-3.5L3.5 3.5M3.5-3.5L-3.5 3.5",
    };
    const path = drawing("path", {d: shapes[f.marker], transform: `rotate(${f.angle * 180 / Math.PI})`});
    if (i < families.length) path.dataset.family = i;
    return drawing("svg", {viewBox: "-6 -6 12 12", "aria-hidden": "true"}, path);
  };
  const numbers = families.map((_, i) => instruments.filter(item => item.family === i).length);
  const legend = families.map((f, i) => [f, numbers[i]]);
  if (mixtures.length) legend.push([{name: "Mixtures", marker: "asterisk", angle: 0}, mixtures.length]);
  for (const [i, [f, n]] of legend.entries()) {
    const box = element("input", {type: "checkbox"});
    box.checked = true;
    box.addEventListener("change", () => update());
    boxes.push(box);
    $("all").before(element("label", {}, box, swatch(i, f), `${f.name} (${few(n)})`));
  }
  const update = () => {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = item => boxes[item.family].checked && words.every(word => item.name.toLowerCase().includes(word));
    shown = instruments.flatMap((item, k) => fits(item) ? [k] : []);
    draw();
    model("mixture").visible = !!mixturesBox()?.checked;
    $("count").textContent = `${few(shown.length)} of ${few(count)} instruments shown`;
    $("empty").hidden = shown.length > 0;
    list.replaceChildren(...shown.map(k => new Option(`${name(k)} (${kind(k)})`, k, false, k === chosen)));
    list.disabled = !shown.length;
    if (!shown.includes(chosen)) list.selectedIndex = -1;
  };
  const draw = () => {  // what a line leads to is drawn too
    view.shown.indices = unique([...shown, ...ends()]);
    const ring = view.shown.indices.includes(chosen) ? [instruments[chosen]] : [];
    model("chosen").data = {x: column(ring, "x"), y: column(ring, "y")};
  };
  const setAll = on => { for (const box of boxes.slice(0, families.length)) box.checked = on; update(); };

  // The view.
  const move = (dx, dy, zoom = 1) => {
    for (const [range, shift] of [[view.x, dx], [view.y, dy]]) {
      const half = (range.end - range.start) / 2, middle = (range.start + range.end) / 2 + 2 * half * shift;
      range.setv({start: middle - half * zoom, end: middle + half * zoom});
    }
  };
  const whole = () => { for (const axis of ["x", "y"]) view[axis].setv({start: home[axis][0], end: home[axis][1]}); };
  const outside = (range, value) => value < range.start || value > range.end;
  const into = (range, value) => {
    const half = (range.end - range.start) / 2;
    if (outside(range, value)) range.setv({start: value - half, end: value + half});
  };

  // The chosen instrument.
  const choose = k => {
    chosen = k;
    const item = instruments[k];
    draw();
    into(view.x, item.x);
    into(view.y, item.y);
    $("choice").hidden = false;
    $("chosen").textContent = `${item.name}, family ${familyOf(item).name}, source ${item.source}`;
    list.selectedIndex = shown.indexOf(k);
  };
  const playInstrument = k => { choose(k); play(k); };

  // A mixture with its lines and its list.
  const lines = (from, picked) => ({
    x0: picked.map(() => from.x), y0: picked.map(() => from.y),
    x1: picked.map(k => instruments[k].x), y1: picked.map(k => instruments[k].y),
    number: picked.map((_, i) => `${i + 1}`),
  });
  const entry = (what, k, words, distance, mark) => {
    const sample = drawing("svg", {viewBox: "0 0 30 8", class: what, "aria-hidden": "true"},
      drawing("path", what === "true" ? {d: "M0 4H30"} : {d: "M0 4H30", "stroke-dasharray": "7 4.5"}));
    const about = element("small", {}, `${words}, distance ${distance.toFixed(3)}`);
    if (mark) about.append(", ", mark);
    const button = element("button", {type: "button"}, `\u25b6 ${name(k)}`, about);
    button.addEventListener("click", () => playInstrument(k));
    return element("li", {class: what}, sample, button);
  };
  const select = m => {
    selected = m;
    $("mixture").value = m === null ? "" : m;
    $("play-mixture").disabled = m === null;
    const matches = m === null ? [] : mixtures[m].matches, from = m === null ? null : mixtures[m];
    model("true").data = lines(from, matches.map(a => a[0]));
    model("best").data = lines(from, matches.map(a => a[2]));
    const present = new Set(matches.map(a => a[0]));
    $("matches").replaceChildren(...matches.map(([truth, near, best, far], i) => {
      const [verdict, sign] = present.has(best) ? ["right", "\u2713"] : ["wrong", "\u2717"];
      const mark = element("span", {class: verdict}, `${sign} ${verdict}`);
      return element("li", {}, element("b", {}, `${i + 1} ${familyOf(instruments[truth]).name}`), element("ul", {},
        entry("true", truth, "in the mixture (solid)", near), entry("best", best, "best match (dashed)", far, mark)));
    }));
    draw();
    if (from && [from, ...ends().map(k => instruments[k])].some(at => outside(view.x, at.x) || outside(view.y, at.y))) whole();
  };
  $("mixture").append(new Option("none", ""), ...mixtures.map((m, i) => new Option(m.name, i)));
  $("mixture").disabled = !mixtures.length;

  // A click or a tap: the nearest thing under it.
  const near = (x, y) => {
    const reach = matchMedia("(pointer: coarse)").matches ? 22 : 10;
    const perX = plot.inner_width / (view.x.end - view.x.start), perY = plot.inner_height / (view.y.end - view.y.start);
    const there = [...view.shown.indices, ...(mixturesBox()?.checked ? mixtures.map((_, i) => count + i) : [])];
    let best = null, least = reach;
    for (const k of there) {
      const at = k < count ? instruments[k] : mixtures[k - count];
      const distance = Math.hypot((at.x - x) * perX, (at.y - y) * perY);
      if (distance < least) [best, least] = [k, distance];
    }
    return best;
  };
  const hit = event => {
    const k = near(event.x, event.y);
    if (k === null) return;
    if (k < count) playInstrument(k);
    else { select(k - count); play(k); }
  };
  for (const gesture of ["tap", "doubletap", "pressup"]) plot.on_event(gesture, hit);  // the second of two quick ones, a slow one

  $("search").addEventListener("input", update);
  $("all").addEventListener("click", () => setAll(true));
  $("none").addEventListener("click", () => setAll(false));
  $("restore").addEventListener("click", () => { $("search").value = ""; setAll(true); $("search").focus(); });
  $("in").addEventListener("click", () => move(0, 0, 1 / 1.5));
  $("out").addEventListener("click", () => move(0, 0, 1.5));
  $("whole").addEventListener("click", whole);
  $("map").addEventListener("keydown", event => {
    const act = {
      ArrowLeft: () => move(-0.1, 0), ArrowRight: () => move(0.1, 0), ArrowUp: () => move(0, 0.1), ArrowDown: () => move(0, -0.1),
      "+": () => move(0, 0, 1 / 1.5), "=": () => move(0, 0, 1 / 1.5), "-": () => move(0, 0, 1.5), 0: whole,
    }[event.key];
    if (event.target !== $("map") || !act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  list.addEventListener("change", () => choose(+list.value));
  list.addEventListener("click", event => { if (event.detail && list.selectedIndex >= 0) playInstrument(+list.value); });
  list.addEventListener("keydown", event => { if (event.key === "Enter" && list.selectedIndex >= 0) playInstrument(+list.value); });
  $("play-chosen").addEventListener("click", () => play(chosen));
  $("mixture").addEventListener("change", event => select(event.target.value === "" ? null : +event.target.value));
  $("play-mixture").addEventListener("click", () => play(count + selected));
  const sizes = ["instrument", "mixture"].map(id => [model(id).glyph, model(id).glyph.size.value]);
  const fit = () => { for (const [glyph, size] of sizes) glyph.size = {value: innerWidth < 600 ? size - 2 : size}; };
  addEventListener("resize", fit);
  dark.addEventListener("change", paint);
  fit();
  update();
  select(null);
  paint();
  document.documentElement.dataset.ready = "";
})();
