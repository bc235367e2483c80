// The divider of the split view: a slider over the stage, moved by pointer, keyboard and program.

const STEP = 2; // percent

export class Divider {
  /** `moved` is called with the place, in percent of the stage's width, whenever it changes. */
  constructor(element, moved) {
    this.element = element;
    this.moved = moved;
    this.move(50);
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      element.focus();
      event.preventDefault();
    });
    element.addEventListener("pointermove", (event) => {
      if (!element.hasPointerCapture(event.pointerId)) return;
      const stage = element.parentElement.getBoundingClientRect();
      this.move((100 * (event.clientX - stage.left)) / stage.width);
    });
    element.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: this.place - STEP, ArrowRight: this.place + STEP, Home: 0, End: 100 }[event.key];
      if (to === undefined) return;
      this.move(to);
      event.preventDefault();
      event.stopPropagation();
    });
  }

  move(place) {
    this.place = Math.round(10 * Math.min(100, Math.max(0, place))) / 10;
    this.element.style.setProperty("--at", this.place);
    this.element.setAttribute("aria-valuenow", Math.round(this.place));
    this.element.setAttribute("aria-valuetext", `${Math.round(this.place)} % A`);
    this.moved(this.place);
  }

  step(direction) {
    this.move(this.place + direction * STEP);
  }
}
