// What the address of the page says after "#": the images and how they are seen.

const NUMBERS = ["divider", "x", "y", "zoom", "channel", "a-layers", "b-layers"];
const LISTS = ["at", "channels", "window"];
const TEXTS = ["a", "b", "view"];

/** The place that the address names; what it does not say, or says wrongly, is left out. */
export function readPlace() {
  const said = new URLSearchParams(location.hash.slice(1));
  const place = {};
  for (const name of TEXTS) if (said.has(name)) place[name] = said.get(name);
  for (const name of NUMBERS) if (said.has(name) && isFinite(said.get(name))) place[name] = Number(said.get(name));
  for (const name of LISTS) {
    const numbers = said.get(name)?.split(",").map(Number);
    if (numbers?.every(isFinite)) place[name] = numbers;
  }
  return place;
}

/** Put a place into the address, without a step in the browser's history. */
export function writePlace(place) {
  const parts = Object.entries(place).filter(([, value]) => value !== null && value !== undefined && value.length !== 0);
  const text = parts.map(([name, value]) => `${name}=${Array.isArray(value) ? value.join(",") : value}`).join("&");
  if (location.hash !== `#${text}`) history.replaceState(null, "", `#${text}`);
}
