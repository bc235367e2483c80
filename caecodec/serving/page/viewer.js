// The page: the images that the server has, seen alone or two at one place, and what that costs.

import { Divider } from "./divider.js";
import { readPlace, writePlace } from "./place.js";
import { Costs, query, tileSource } from "./tile-source.js";

const MOST_ZOOM = 32; // pixels of the screen for one of the image
const STEP = 80; // pixels of the screen that an arrow key moves the image
const element = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

const served = await (await fetch("images")).json();
const images = new Map(served.images.map((image) => [image.key, image]));
const sides = { a: null, b: null }; // {image, item, costs}
// composite: whether `channels` are seen in colour, or `channel` alone; windows: [low, high] by channels, those of A for B too
const state = { a: null, b: null, view: "a", at: [], composite: false, channel: null, channels: [], layers: { a: null, b: null }, windows: {} };
let placed = ""; // the size of the image that the viewer last looked at
let remembering; // the timer
let asked = 0; // counts what was asked for, so that what comes late is not taken for the latest
let answered = 0; // the last of them that the viewer shows

const viewer = OpenSeadragon({
  element: element("viewer"),
  drawer: "canvas",
  showNavigationControl: false,
  keyboardNavEnabled: false, // KEYS below work wherever the focus is
  animationTime: still ? 0 : 0.4,
  springStiffness: 10,
  imageLoaderLimit: 6,
  timeout: 300_000,
  maxZoomPixelRatio: MOST_ZOOM,
  visibilityRatio: 0.2,
  gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
});
const divider = new Divider(element("divider"), clip);

// The images and their parts

/** Show what `state` says; the part of the image stays if there is one, unless `place` has another. */
async function show(place = {}) {
  const mine = ++asked;
  complain("");
  busy();
  const a = images.get(state.a);
  if (!choice("a", a).window && !isPlain(a)) {
    const usual = fetch(`images/${a.key}/window${query({ ...choice("a", a), window: null })}`);
    const answer = await usual.then((response) => response.json()).catch((error) => ({ error: error.message }));
    if (mine !== asked) return;
    if (answer.window) channelsOf(a).forEach((channel, i) => (state.windows[channel] ??= answer.window.slice(2 * i, 2 * i + 2)));
    else complain(answer.error);
  }
  for (const side of ["a", "b"]) await put(side, images.get(state[side]) ?? null);
  if (mine !== asked) return;
  describe();
  answered = mine;
  arrange();
  move(place);
}

/** Make an image a side, or none; nothing is done if it is there already and seen in the same way. */
async function put(side, image) {
  const seen = image && image.key + query(choice(side, image));
  if (sides[side]?.seen === seen) return;
  if (sides[side]?.item) viewer.world.removeItem(sides[side].item);
  const put = (sides[side] = image && { image, seen, item: null, costs: new Costs() });
  if (!image) return;
  const paid = (cost) => {
    put.costs.add(cost);
    if (sides[side] === put) account(side, cost);
  };
  const failed = (message) => sides[side] === put && complain(`${side.toUpperCase()}: ${message}`);
  const item = await new Promise((success) => {
    const options = { tileSource: tileSource(image, choice(side, image), paid, failed), opacity: 0, width: 1 };
    viewer.addTiledImage({ ...options, success: (event) => success(event.item) });
  });
  if (sides[side] !== put) return viewer.world.removeItem(item);
  put.item = item;
  item.addHandler("fully-loaded-change", busy);
}

/** Say that what was asked for is not there yet, as long as it, or a tile of it, is missing. */
function busy() {
  const items = Object.values(sides).filter((one) => one?.item?.getOpacity()).map((one) => one.item);
  element("busy").hidden = answered === asked && items.every((item) => item.getFullyLoaded());
}

/** Whether an image is seen as it is, whatever its window. */
function isPlain(image) {
  return image.rgb && image.dtype === "uint8";
}

/** The channels of an image that are seen, as far as it has them; null for RGB. */
function channelsOf(image) {
  if (image.rgb) return [null];
  const channels = state.composite ? state.channels : [state.channel ?? 0];
  return [...new Set(channels.map((channel) => Math.min(channel, image.channels.length - 1)))];
}

/** What a side shows: as `state` says, as far as its image has it. */
function choice(side, image) {
  const like = image.axes.length === state.at.length && image.axes.every((axis, i) => state.at[i] < axis.length);
  const at = like ? state.at : image.axes.map((axis) => axis.at);
  const channels = channelsOf(image);
  const composite = state.composite && !image.rgb;
  const windows = channels.map((one) => state.windows[one]);
  const layers = state.layers[side];
  const fewer = Number.isInteger(layers) && layers >= 1 && layers < image.layers;
  return {
    at,
    channel: composite ? null : channels[0],
    channels: composite ? channels : null,
    layers: fewer ? layers : null,
    window: isPlain(image) || !windows.every(Boolean) ? null : windows.flat(),
  };
}

/** What a side shows, in words. */
function title(side) {
  const { image } = sides[side];
  const { layers } = choice(side, image);
  const part = image.layers > 1 ? `${layersInWords(layers, image.layers)} of ` : ""; // first, since long names are cut short
  return `${side.toUpperCase()}: ${part}${image.name}`;
}

function layersInWords(layers, count) {
  return layers ? `${layers} of ${count} layers` : `all ${count} layers`;
}

/** Show the sides that the view has; the other one is loaded too, so that a switch takes no time. */
function arrange() {
  for (const side of ["a", "b"]) {
    const seen = state.view === side || state.view === "split";
    sides[side]?.item?.setPreload(!seen);
    sides[side]?.item?.setOpacity(seen ? 1 : 0);
  }
  const split = state.view === "split";
  element("divider").hidden = !split;
  element("left-name").textContent = state.view === "b" ? "" : title("a");
  element("right-name").textContent = state.view === "a" ? "" : title("b");
  for (const radio of document.querySelectorAll("#view input")) {
    radio.checked = radio.value === state.view;
    radio.disabled = radio.value !== "a" && !sides.b;
  }
  clip();
  busy();
  remember();
}

/** Cut both sides at the divider in the split view. */
function clip() {
  const { a, b } = sides;
  if (!a?.item || !b?.item) return;
  const split = state.view === "split";
  const left = new OpenSeadragon.Point((divider.place / 100) * viewer.container.clientWidth, 0);
  for (const [{ item }, first] of [[a, true], [b, false]]) {
    const { x: width, y: height } = item.getContentSize();
    const at = Math.min(width, Math.max(0, item.viewerElementToImageCoordinates(left).x));
    item.setClip(split ? new OpenSeadragon.Rect(first ? 0 : at, 0, first ? at : width - at, height) : null);
    if (split) item.setOpacity((first ? at > 0 : at < width) ? 1 : 0);
  }
  remember();
}

// Where the viewer looks

function home() {
  const { image } = sides.a;
  if (image.limited) move({ x: image.levels[0].width / 2, y: image.levels[0].height / 2, zoom: leastZoom(image) });
  else viewer.viewport.goHome(still);
}

/** The least zoom at which an image without coarse levels is shown: one pixel of the screen for one of its coarsest level. */
function leastZoom(image) {
  return image.levels.at(-1).width / image.levels[0].width;
}

/** Look at a pixel of A, `zoom` pixels of the screen for one of the image; by default look on, or, if its size is new, at all of it. */
function move({ x, y, zoom }) {
  const { item, image } = sides.a;
  const viewport = viewer.viewport;
  viewport.minZoomLevel = image.limited ? item.imageToViewportZoom(leastZoom(image)) : null;
  viewport.minZoomImageRatio = image.limited ? 0 : 0.8;
  if (zoom > 0) viewport.zoomTo(item.imageToViewportZoom(zoom), null, true);
  if (x !== undefined && y !== undefined) viewport.panTo(item.imageToViewportCoordinates(x, y), true);
  const size = `${image.levels[0].width} x ${image.levels[0].height}`;
  if (zoom === undefined && x === undefined && size !== placed) home();
  placed = size;
  moved();
}

/** Put what is seen into the address, once it no longer changes: browsers allow few such changes a second. */
function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(write, 100);
}

function write() {
  const { item } = sides.a;
  const centre = item.viewportToImageCoordinates(viewer.viewport.getCenter());
  const zoom = item.viewportToImageZoom(viewer.viewport.getZoom());
  writePlace({
    a: state.a,
    b: state.b,
    view: state.view,
    divider: state.view === "split" ? divider.place : null,
    at: state.at,
    channel: choice("a", sides.a.image).channel,
    channels: choice("a", sides.a.image).channels,
    "a-layers": choice("a", sides.a.image).layers,
    "b-layers": sides.b && choice("b", sides.b.image).layers,
    window: choice("a", sides.a.image).window,
    x: Math.round(10 * centre.x) / 10,
    y: Math.round(10 * centre.y) / 10,
    zoom: Number(zoom.toPrecision(4)),
  });
}

/** Show what the address says, as far as there is such a thing. */
function follow() {
  const place = readPlace();
  const first = served.images[0].key;
  const a = images.has(place.a) ? place.a : (state.a ?? first);
  state.b = images.has(place.b) ? place.b : null;
  choose(a, place);
  state.layers = { a: place["a-layers"] ?? null, b: place["b-layers"] ?? null };
  state.view = state.b && ["a", "b", "split"].includes(place.view) ? place.view : "a";
  if (place.divider !== undefined) divider.move(place.divider);
  if (place.a && !images.has(place.a)) return show(place).then(() => complain("The image of this address is not served."));
  return show(place);
}

/** Make an image A, with these or its own channels, positions and windows. */
function choose(key, { at, channel, channels, window } = {}) {
  const image = images.get(key);
  state.a = key;
  const fits = at?.length === image.axes.length && image.axes.every((axis, i) => at[i] >= 0 && at[i] < axis.length);
  state.at = fits ? at : image.axes.map((axis) => axis.at);
  const has = (one) => image.channels[one] !== undefined;
  const mixed = !image.rgb && channels?.length > 0 && channels.every(has);
  state.composite = mixed || (image.composed.length > 0 && !has(channel));
  state.channel = image.rgb ? null : has(channel) ? channel : 0;
  state.channels = mixed ? [...new Set(channels)].sort((a, b) => a - b) : image.composed;
  if (!state.channels.length) state.channels = image.channels.map((_, i) => i);
  state.windows = {};
  const pairs = channelsOf(image).map((one, i) => [one, window?.slice(2 * i, 2 * i + 2)]);
  if (window?.length === 2 * pairs.length && pairs.every(([, [low, high]]) => low < high)) state.windows = Object.fromEntries(pairs);
}

/** Follow the viewer: its zoom in words, hard pixels where the image is enlarged, and the clips. */
function moved() {
  const item = sides.a?.item;
  if (!item) return;
  const zoom = item.viewportToImageZoom(viewer.viewport.getZoom(true));
  element("zoom").textContent = `${zoom >= 0.1 ? Math.round(100 * zoom) : (100 * zoom).toPrecision(2)} %`;
  viewer.drawer.setImageSmoothingEnabled(zoom < 1);
  clip();
  remember();
}

// The controls

function describe() {
  const a = sides.a.image;
  fill([element("low"), element("high")], state.windows[state.channel] ?? [0, 255]);
  document.title = `${a.name} - caecodec`;
  element("a").value = state.a;
  element("b").value = state.b ?? "";
  element("channel-choice").hidden = a.rgb || a.channels.length < 2;
  const alone = a.channels.map((label, i) => new Option(label, i, false, !state.composite && i === state.channel));
  element("channel").replaceChildren(new Option("several, in colour", "", false, state.composite), ...alone);
  offerChannels(a);
  for (const side of ["a", "b"]) offerLayers(side);
  element("contrast").hidden = isPlain(a);
  for (const id of ["low", "high"]) element(id).parentElement.hidden = state.composite; // each channel has its own
  element("axes").replaceChildren(...a.axes.filter((axis) => axis.length > 1).map((axis) => slider(axis, a.axes.indexOf(axis))));
  element("about").replaceChildren(...["a", "b"].filter((side) => sides[side]).map((side) => about(side, sides[side].image)));
  element("note").hidden = !a.limited;
  element("note").textContent =
    `A has no pyramid, so levels to 1:${Math.round(1 / leastZoom(a))} are made by averaging, and no more of it is shown at once. ` +
    "caecodec encode writes one.";
  for (const side of ["a", "b"]) account(side);
}

/** The switches of a composite's channels. They are made once for an image, so that the focus stays. */
function offerChannels(image) {
  const box = element("composite");
  box.hidden = !state.composite;
  if (box.dataset.image !== image.key) {
    box.dataset.image = image.key;
    box.replaceChildren(box.firstElementChild, ...image.channels.map((label, i) => channelSwitch(label, image.colours[i], i)));
  }
  [...box.querySelectorAll("div")].forEach((row, i) => {
    const [on, ...window] = row.querySelectorAll("input");
    on.checked = state.channels.includes(i);
    for (const input of window) input.disabled = !on.checked;
    fill(window, state.windows[i] ?? ["", ""]);
  });
}

function channelSwitch(name, colour, channel) {
  const [row, label, swatch] = ["div", "label", "span"].map((kind) => document.createElement(kind));
  const on = Object.assign(document.createElement("input"), { type: "checkbox" });
  const window = ["black", "white"].map((end) => Object.assign(document.createElement("input"), { type: "number", step: "any", ariaLabel: `${end} of ${name}` }));
  swatch.style.setProperty("--colour", colour);
  on.addEventListener("change", () => toggle(channel));
  for (const input of window) input.addEventListener("change", () => setWindow(channel, window));
  label.append(on, swatch, name);
  row.append(label, ...window);
  return row;
}

/** Put values into inputs, but not into one that is being edited. */
function fill(inputs, values) {
  inputs.forEach((input, i) => {
    if (input !== document.activeElement) input.value = values[i];
  });
}

/** Show a channel by the window in two inputs. */
function setWindow(channel, inputs) {
  const window = inputs.map((input) => input.valueAsNumber);
  if (!(window[0] < window[1])) return complain("Black must be less than white.");
  state.windows[channel] = window;
  show();
}

/** Show a channel of the composite, or leave it out, unless it is the last one. */
function toggle(channel) {
  if (!state.composite || channel >= sides.a.image.channels.length) return;
  const others = state.channels.filter((one) => one !== channel);
  if (others.length === state.channels.length) state.channels = [...others, channel].sort((a, b) => a - b);
  else if (others.length) state.channels = others;
  show();
}

/** The numbers of layers that a side's image can be seen with, if it has several. */
function offerLayers(side) {
  const image = sides[side]?.image;
  const count = image?.layers ?? 0;
  element(`${side}-layers-choice`).hidden = count < 2;
  if (count < 2) return;
  const { layers } = choice(side, image);
  const fewer = Array.from({ length: count - 1 }, (_, i) => i + 1);
  const options = [null, ...fewer].map((one) => new Option(layersInWords(one, count), one ?? "", false, one === layers));
  element(`${side}-layers`).replaceChildren(...options);
}

function slider(axis, place) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "range", min: 0, max: axis.length - 1, value: state.at[place] });
  const value = document.createElement("output");
  const say = () => (value.textContent = `${Number(input.value) + 1} of ${axis.length}`);
  input.addEventListener("input", say);
  input.addEventListener("change", () => {
    state.at[place] = Number(input.value);
    show();
  });
  input.setAttribute("aria-label", axis.name);
  say();
  label.append(`${axis.name} `, value, input);
  return label;
}

function about(side, image) {
  const line = document.createElement("p");
  const made = image.levels.filter((level) => level.made).length;
  const levels = `${image.levels.length - made} level${image.levels.length - made > 1 ? "s" : ""}${made ? `, ${made} made by averaging` : ""}`;
  const name = Object.assign(document.createElement("b"), { textContent: `${side.toUpperCase()} ` });
  const rest = Object.assign(document.createElement("span"), { className: "quiet" });
  rest.textContent = `${image.dtype}, ${image.shape.join(" x ")}; ${image.codec}; ${levels}`;
  line.append(name, image.name, document.createElement("br"), rest);
  return line;
}

const ROWS = [
  ["tiles", (costs) => costs.tiles],
  ["still decoded", (costs) => costs.kept],
  ["read", (costs) => bytes(costs.read)],
  ["bits per pixel", (costs) => (costs.pixels ? ((8 * costs.read) / costs.pixels).toFixed(3) : "")],
  ["decoding", (costs) => (costs.decode < 1e4 ? `${Math.round(costs.decode)} ms` : `${(costs.decode / 1000).toFixed(1)} s`)],
  ["a tile", (costs) => (costs.tiles > costs.kept ? `${Math.round(costs.decode / (costs.tiles - costs.kept))} ms` : "")],
  ["PNG", (costs) => bytes(costs.picture)],
];

function account(side, cost) {
  const cells = ROWS.map(([name, text]) => {
    const row = document.createElement("tr");
    const head = Object.assign(document.createElement("th"), { scope: "row", textContent: name });
    row.append(head, ...["a", "b"].map((one) => Object.assign(document.createElement("td"), { textContent: sides[one] ? text(sides[one].costs) : "" })));
    return row;
  });
  element("costs").replaceChildren(...cells);
  element("last").textContent = cost
    ? `Last tile (${side.toUpperCase()}): ${bytes(cost.read)} read, ${cost.decode} ms decoding, ${cost.png} ms PNG, ${cost.wait} ms waiting`
    : "";
}

function bytes(count) {
  if (count < 1e3) return `${count} B`;
  return count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(2)} MB`;
}

function complain(message) {
  element("problem").hidden = !message;
  element("problem").textContent = message;
}

function look(view) {
  if (view !== "a" && !sides.b) return;
  state.view = view;
  arrange();
}

const panBy = (x, y) => {
  const step = viewer.viewport.deltaPointsFromPixels(new OpenSeadragon.Point(x * STEP, y * STEP));
  viewer.viewport.panBy(step, still).applyConstraints();
};
const zoomBy = (factor) => viewer.viewport.zoomBy(factor, null, still).applyConstraints();

element("title").textContent = served.name;
element("a").append(...served.images.map((image) => new Option(image.name, image.key)));
element("b").append(new Option("none", ""), ...served.images.map((image) => new Option(image.name, image.key)));
element("left-out").hidden = !served.left_out.length;
element("left-out").querySelector("summary").textContent = `${served.left_out.length} not shown`;
element("left-out").querySelector("ul").append(...served.left_out.map((text) => Object.assign(document.createElement("li"), { textContent: text })));

element("a").addEventListener("change", (event) => {
  const { channel, channels } = choice("a", sides.a.image);
  choose(event.target.value, sides.a.image.rgb ? {} : { at: state.at, channel, channels });
  show();
});
element("b").addEventListener("change", (event) => {
  state.b = event.target.value || null;
  if (!state.b) state.view = "a";
  show();
});
element("view").addEventListener("change", (event) => look(event.target.value));
for (const side of ["a", "b"])
  element(`${side}-layers`).addEventListener("change", (event) => {
    state.layers[side] = Number(event.target.value) || null;
    show();
  });
element("channel").addEventListener("change", (event) => {
  state.composite = event.target.value === "";
  if (!state.composite) state.channel = Number(event.target.value);
  show();
});
for (const id of ["low", "high"]) element(id).addEventListener("change", () => setWindow(state.channel, ["low", "high"].map(element)));
element("usual").addEventListener("click", () => {
  for (const channel of channelsOf(sides.a.image)) delete state.windows[channel];
  show();
});
element("zoom-in").addEventListener("click", () => zoomBy(1.5));
element("zoom-out").addEventListener("click", () => zoomBy(1 / 1.5));
element("zoom-one").addEventListener("click", () => viewer.viewport.zoomTo(sides.a.item.imageToViewportZoom(1), null, still));
element("zoom-fit").addEventListener("click", home);

const KEYS = {
  1: () => look("a"),
  2: () => look("b"),
  3: () => look("split"),
  " ": () => look(state.view === "a" ? "b" : "a"),
  "[": () => divider.step(-1),
  "]": () => divider.step(1),
  ArrowLeft: () => panBy(-1, 0),
  ArrowRight: () => panBy(1, 0),
  ArrowUp: () => panBy(0, -1),
  ArrowDown: () => panBy(0, 1),
  "+": () => zoomBy(1.5),
  "=": () => zoomBy(1.5),
  "-": () => zoomBy(1 / 1.5),
  0: home,
  c: () => {
    if (sides.a.image.rgb) return;
    state.channel = state.composite ? state.channels[0] : (state.channel + 1) % sides.a.image.channels.length;
    state.composite = false;
    show();
  },
  m: () => {
    if (sides.a.image.rgb || sides.a.image.channels.length < 2) return;
    state.composite = !state.composite;
    show();
  },
};
document.addEventListener("keydown", (event) => {
  const choosing = ["radio", "checkbox"].includes(event.target.type) && event.key !== " ";
  const editing = event.target.closest("input, select, summary, button") && !choosing;
  const digit = event.shiftKey && event.code.match(/^Digit([1-9])$/)?.[1];
  const act = KEYS[event.key] ?? (digit && (() => toggle(digit - 1)));
  if (editing || event.ctrlKey || event.altKey || event.metaKey || !act) return;
  act();
  event.preventDefault();
});

viewer.addHandler("viewport-change", moved);
viewer.addHandler("resize", () => requestAnimationFrame(moved));
window.addEventListener("hashchange", follow);
await follow();
document.documentElement.dataset.ready = "";
