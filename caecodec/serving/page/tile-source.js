// An image of the server -> a tile source of OpenSeadragon, and what its tiles cost.

/** The sums over the tiles of an image: bytes read from the store, pixels decoded, milliseconds, bytes of the pictures. */
export class Costs {
  tiles = 0;
  kept = 0; // tiles that the server still had
  read = 0;
  pixels = 0;
  decode = 0;
  picture = 0;

  add(cost) {
    this.tiles += 1;
    this.kept += cost.pixels === 0;
    for (const name of ["read", "pixels", "decode", "picture"]) this[name] += cost[name];
  }
}

/** The query of a choice: {at: positions, channel, or the channels of a composite, layers, window: [low, high] of each}. */
export function query({ at, channel, channels, layers, window }) {
  const parts = new URLSearchParams();
  if (at.length) parts.set("at", at.join(","));
  if (channel !== null) parts.set("channel", channel);
  if (channels) parts.set("channels", channels.join(","));
  if (layers) parts.set("layers", layers);
  if (window) parts.set("window", window.join(","));
  return parts.size ? `?${parts}` : "";
}

/** `paid` is called with the cost of every tile that comes, and `failed` with what the server says of one that does not. */
export function tileSource(image, choice, paid, failed) {
  const { levels } = image;
  const last = levels.length - 1; // OpenSeadragon counts levels from the coarsest
  const finest = levels[0];
  const level = (number) => levels[last - number];
  const source = new OpenSeadragon.TileSource({
    width: finest.width,
    height: finest.height,
    tileSize: finest.tile,
    tileOverlap: 0,
    minLevel: 0,
    maxLevel: last,
    getTileUrl: (number, x, y) => `tiles/${image.key}/${last - number}/${x}_${y}.png${query(choice)}`,
  });
  return Object.assign(source, {
    getLevelScale: (number) => level(number).width / finest.width,
    getTileWidth: (number) => level(number).tile,
    getTileHeight: (number) => level(number).tile,
    getNumTiles: (number) => {
      const { width, height, tile } = level(number);
      return new OpenSeadragon.Point(Math.ceil(width / tile), Math.ceil(height / tile));
    },
    getTileBounds: (number, x, y, inTile) => {
      const { width, height, tile } = level(number);
      const size = [Math.min(tile, width - x * tile), Math.min(tile, height - y * tile)];
      if (inTile) return new OpenSeadragon.Rect(0, 0, ...size);
      const tall = finest.height / finest.width / height; // pixels of a level whose sides are rounded are no squares
      return new OpenSeadragon.Rect((x * tile) / width, y * tile * tall, size[0] / width, size[1] * tall);
    },
    downloadTileStart: async (job) => {
      job.userData.stop = new AbortController();
      try {
        const response = await fetch(job.src, { signal: job.userData.stop.signal });
        if (!response.ok) throw new Error((await response.json()).error ?? response.statusText);
        const picture = await response.blob();
        paid(costOf(response.headers, picture.size));
        job.finish(picture, null, "rasterBlob");
      } catch (error) {
        if (error.name !== "AbortError") failed(error.message);
        job.fail(error.message, null);
      }
    },
    downloadTileAbort: (job) => job.userData.stop?.abort(),
  });
}

function costOf(headers, picture) {
  const step = (name) => Number(headers.get("Server-Timing").match(`${name};dur=([0-9.]+)`)[1]);
  return {
    read: Number(headers.get("Caecodec-Read-Bytes")),
    pixels: Number(headers.get("Caecodec-Decoded-Pixels")),
    decode: step("decode"),
    png: step("png"),
    wait: step("wait"),
    picture,
  };
}
