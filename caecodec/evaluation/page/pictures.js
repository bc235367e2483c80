// The pictures: a slider between the original, or another codec's picture, and a codec's, which zoom together.
{
  const { images } = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const MOST = 32; // grey levels at the end of the heat map's scale
  const WIDTH = 768; // pixels; smaller pictures are enlarged to this width if there is room
  const HEAT = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]]; // the colours of "inferno"
  const AT_ONCE = { animate: false }; // or one side would move before the other
  const [slider, stage, left, heat] = ["slider", "stage", "left", "heat"].map($);
  const leftPicture = $("left-picture"), rightPicture = $("right-picture"), error = $("error");
  const state = { image: 0, rate: 0, codec: 0 };

  const pictures = () => images[state.image].rates[state.rate];
  const original = () => ({ codec: "Original", setting: "", values: "24 bpp", source: images[state.image].original });
  const title = (picture) => [picture.codec, picture.setting].filter(Boolean).join(", ");

  // A group of radio buttons whose labels `fill` writes; `choose` gets the number of the one that is chosen.
  const radios = (fieldset, name, count, chosen, fill, choose) => {
    fieldset.querySelector("div")?.remove();
    const group = fieldset.appendChild(document.createElement("div"));
    for (let number = 0; number < count; number++) {
      const label = group.appendChild(document.createElement("label"));
      const input = label.appendChild(document.createElement("input"));
      Object.assign(input, { type: "radio", name, checked: number === chosen });
      input.addEventListener("change", () => choose(number));
      fill(label, number);
    }
  };

  const listImages = () => radios($("images"), "image", images.length, state.image, (label, number) => {
    const picture = label.appendChild(new Image());
    Object.assign(picture, { src: images[number].original, alt: images[number].name, title: images[number].name });
  }, (number) => {
    Object.assign(state, { image: number, rate: Math.min(state.rate, images[number].rates.length - 1) });
    panzoom.reset(AT_ONCE);
    refresh();
  });

  const listRates = () => radios($("rates"), "rate", images[state.image].rates.length, state.rate, (label, number) => {
    label.append(images[state.image].rates[number][0].values.split(",")[0]);
  }, (number) => { state.rate = number; refresh(); });

  const listCodecs = () => radios($("codecs"), "codec", pictures().length, state.codec, (label, number) => {
    label.appendChild(document.createElement("b")).textContent = title(pictures()[number]);
    label.appendChild(document.createElement("small")).textContent = pictures()[number].values;
  }, (number) => { state.codec = number; show(); });

  const listLeft = () => {
    const chosen = Math.max(left.selectedIndex, 0);
    left.replaceChildren(...[original(), ...pictures()].map((picture) => new Option(picture.codec)));
    left.selectedIndex = Math.min(chosen, pictures().length);
  };

  const describe = () => {
    slider.setAttribute("aria-valuenow", Math.round(slider.value));
    slider.setAttribute("aria-valuetext", `${Math.round(slider.value)} % ${left.value}`);
  };

  const show = async () => {
    const first = [original(), ...pictures()][left.selectedIndex], second = pictures()[state.codec];
    const { width, height, name } = images[state.image];
    slider.style.setProperty("--width", `${Math.max(width, WIDTH)}px`);
    for (const [picture, { source }, content] of [[leftPicture, first, title(first)], [rightPicture, second, title(second)]]) {
      Object.assign(picture, { src: source, alt: `${name}: ${content}`, width, height });
    }
    $("left-caption").textContent = `${title(first)}: ${first.values}`;
    $("right-caption").textContent = `${heat.checked ? "Error of " : ""}${title(second)}: ${second.values}`;
    slider.setAttribute("aria-label", `Divider between ${title(first)} and ${heat.checked ? "the error of " : ""}${title(second)}`);
    describe();
    if (heat.checked) await drawError(images[state.image].original, second.source, width, height);
    rightPicture.hidden = heat.checked;
    error.hidden = $("scale").hidden = !heat.checked;
  };

  const refresh = () => {
    listRates();
    listCodecs();
    listLeft();
    show();
  };

  const pixels = async (source, width, height) => {
    const picture = Object.assign(new Image(), { src: source });
    await picture.decode();
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    return context.getImageData(0, 0, width, height).data;
  };

  const heatColour = (level) => {
    const place = Math.min(level / MOST, 1) * (HEAT.length - 1), below = Math.min(Math.floor(place), HEAT.length - 2);
    return HEAT[below].map((value, channel) => value + (place - below) * (HEAT[below + 1][channel] - value));
  };

  const drawError = async (originalSource, source, width, height) => {
    const [before, after] = await Promise.all([pixels(originalSource, width, height), pixels(source, width, height)]);
    const map = new ImageData(width, height);
    for (let place = 0; place < map.data.length; place += 4) {
      const differences = [0, 1, 2].map((channel) => Math.abs(before[place + channel] - after[place + channel]));
      map.data.set([...heatColour((differences[0] + differences[1] + differences[2]) / 3), 255], place);
    }
    Object.assign(error, { width, height });
    error.getContext("2d").putImageData(map, 0, 0);
  };

  // One transform for both sides. The divider can be dragged anywhere until the picture is enlarged; then dragging moves it.
  const enlarge = (element, { x, y, scale }) => {
    for (const picture of stage.querySelectorAll(".picture")) picture.style.transform = `scale(${scale}) translate(${x}px, ${y}px)`;
    stage.classList.toggle("zoomed", scale > 1);
    slider.handle = scale > 1;
    $("zoom").textContent = `${Math.round(scale * 100)} %`;
  };

  const moveDivider = (value) => { slider.value = value; slider.dispatchEvent(new Event("slide")); };

  const onGrip = (event) => {
    const { left, right, top, bottom } = stage.querySelector(".grip").getBoundingClientRect();
    return event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
  };

  let panzoom;
  if (images.length) {
    $("pictures").hidden = false;
    $("most").textContent = `${MOST} or more`;
    document.querySelector(".gradient").style.background = `linear-gradient(90deg, ${HEAT.map((c) => `rgb(${c})`).join()})`;
    panzoom = Panzoom(leftPicture.parentElement, {
      noBind: true, contain: "outside", minScale: 1, maxScale: 16, step: 0.5, panOnlyWhenZoomed: true, cursor: "", touchAction: "", setTransform: enlarge,
    });
    const closer = () => panzoom.zoomIn(AT_ONCE);
    const zoom = { "+": closer, "=": closer, "-": () => panzoom.zoomOut(AT_ONCE), 0: () => panzoom.reset(AT_ONCE) };
    $("zoom-in").addEventListener("click", zoom["+"]);
    $("zoom-out").addEventListener("click", zoom["-"]);
    $("zoom-fit").addEventListener("click", zoom[0]);
    stage.addEventListener("wheel", (event) => { if (event.ctrlKey) panzoom.zoomWithWheel(event); }, { passive: false });
    stage.addEventListener("pointerdown", (event) => {
      if (onGrip(event) || (event.pointerType === "mouse" && panzoom.getScale() === 1)) return;
      panzoom.handleDown(event);
      slider.focus();
    });
    document.addEventListener("pointermove", panzoom.handleMove);
    for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, panzoom.handleUp);
    stage.addEventListener("keydown", (event) => {
      const [x, y] = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key] ?? [];
      const ends = { Home: 0, End: 100 };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.shiftKey && x !== undefined) panzoom.pan(x / panzoom.getScale(), y / panzoom.getScale(), { relative: true });
      else if (event.key in zoom) zoom[event.key]();
      else if (event.key in ends) moveDivider(ends[event.key]);
      else return; // the slider moves the divider with the arrow keys
      event.preventDefault();
      event.stopPropagation();
    }, true);
    slider.addEventListener("slide", describe);
    heat.addEventListener("change", show);
    left.addEventListener("change", show);
    listImages();
    refresh();
  }
}
