"use strict";
// The confusion matrix, the table of samples and the pause button. All data stand in JSON beside their elements.

const dark = matchMedia("(prefers-color-scheme: dark)");

// Cividis, as matplotlib has it, at nine places.
const STOPS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115],
  [138, 134, 120], [165, 156, 116], [195, 179, 105], [254, 232, 56]];

function colorOf(share) {
  const place = Math.min(share, 1) * (STOPS.length - 1), low = Math.min(Math.floor(place), STOPS.length - 2);
  const part = place - low;
  return "rgb(" + STOPS[low].map((v, i) => Math.round(v + part * (STOPS[low + 1][i] - v))).join(",") + ")";
}

class Confusion {
  constructor(box) {
    this.box = box;
    this.data = JSON.parse(box.querySelector("script").textContent);
    this.size = this.data.names.length;
    this.canvas = box.querySelector("canvas");
    this.readout = box.querySelector(".readout");
    this.counts = new Map(this.data.entries.map(([r, c, n]) => [r * this.size + c, n]));
    this.cursor = [0, 0];
    this.found = null;
    this.sortBy("clusters");
    this.showAll();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    dark.addEventListener("change", () => this.draw());
  }

  share(row, column) {
    return (this.counts.get(row * this.size + column) || 0) / Math.max(1, this.data.counts[row]);
  }

  sortBy(way) {
    const all = [...Array(this.size).keys()], names = this.data.names;
    const orders = {
      label: () => all,
      name: () => all.sort((a, b) => names[a].localeCompare(names[b])),
      accuracy: () => all.sort((a, b) => this.share(a, a) - this.share(b, b) || a - b),
      clusters: () => this.data.clusters,
    };
    this.order = orders[way]();
    this.way = way;
    if (this.found !== null) this.lookAt(this.found);
  }

  showAll() { this.view = { left: 0, top: 0, span: this.size }; this.draw(); }

  zoom(factor, x = 0.5, y = 0.5) {
    const v = this.view, span = Math.min(this.size, Math.max(Math.min(6, this.size), v.span * factor));
    v.left += x * (v.span - span);
    v.top += y * (v.span - span);
    v.span = span;
    this.clamp();
  }

  clamp() {
    const v = this.view, most = this.size - v.span;
    v.left = Math.max(0, Math.min(most, v.left));
    v.top = Math.max(0, Math.min(most, v.top));
    this.draw();
  }

  lookAt(label) {
    const place = this.order.indexOf(label);
    const span = Math.min(this.size, 24);
    this.view = { left: place - span / 2 + 0.5, top: place - span / 2 + 0.5, span };
    this.cursor = [place, place];
    this.clamp();
  }

  search(text) {
    const wanted = text.trim().toLowerCase(), names = this.data.names.map(name => name.toLowerCase());
    this.found = null;
    if (!wanted) { this.readout.textContent = ""; this.showAll(); return; }
    let label = names.indexOf(wanted);
    if (label < 0) label = names.findIndex(name => name.includes(wanted));
    if (label < 0) { this.readout.textContent = "No class is called that."; this.draw(); return; }
    this.found = label;
    this.lookAt(label);
    this.readout.textContent = this.tellClass(label);
  }

  tellClass(label) {
    const answers = this.data.entries.filter(([r, c]) => r === label && c !== label).sort((a, b) => b[2] - a[2]);
    const told = answers.slice(0, 5).map(([, c, n]) => `${this.data.names[c]} (${n})`).join(", ");
    const right = Math.round(100 * this.share(label, label));
    return `${this.data.names[label]}: ${right} % of ${this.data.counts[label]} right` +
      (told ? `; taken for ${told}` : "");
  }

  tellField(row, column) {
    const label = this.order[row], answer = this.order[column];
    const n = this.counts.get(label * this.size + answer) || 0;
    return `${this.data.names[label]} answered as ${this.data.names[answer]}: ${n} of ${this.data.counts[label]}` +
      ` (${Math.round(100 * this.share(label, answer))} %)`;
  }

  margin() { return this.view.span <= 40 ? Math.min(0.34 * this.canvas.clientWidth, 210) : 8; }

  draw() {
    const ratio = devicePixelRatio || 1, side = this.canvas.clientWidth;
    if (!side) return;
    if (this.canvas.width !== Math.round(side * ratio)) {
      this.canvas.width = this.canvas.height = Math.round(side * ratio);
    }
    const pen = this.canvas.getContext("2d"), style = getComputedStyle(document.body), v = this.view;
    const margin = this.margin(), field = (side - margin) / v.span;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, side, side);
    pen.save();
    pen.beginPath();
    pen.rect(margin, margin, side - margin, side - margin);
    pen.clip();
    pen.fillStyle = colorOf(0);
    pen.fillRect(margin, margin, side, side);
    const place = new Array(this.size);
    this.order.forEach((label, at) => { place[label] = at; });
    for (const [r, c, n] of this.data.entries) {
      const x = margin + (place[c] - v.left) * field, y = margin + (place[r] - v.top) * field;
      if (x + field < margin || y + field < margin || x > side || y > side) continue;
      const share = n / Math.max(1, this.data.counts[r]);
      // A tiny field is drawn larger than it is: a single mistake among hundreds of classes is still seen.
      pen.fillStyle = colorOf(share);
      pen.fillRect(x, y, Math.max(1.5, field + 0.4), Math.max(1.5, field + 0.4));
      if (field > 26) {
        pen.fillStyle = share > 0.6 ? "#000" : "#fff";
        pen.font = "12px system-ui, sans-serif";
        pen.textAlign = "center";
        pen.textBaseline = "middle";
        pen.fillText(Math.round(100 * share) + "", x + field / 2, y + field / 2);
      }
    }
    const mark = (row, column, color) => {
      pen.strokeStyle = color;
      pen.lineWidth = 2;
      pen.strokeRect(margin + (column - v.left) * field, margin + (row - v.top) * field, field, field);
    };
    if (this.found !== null) {
      const at = place[this.found];
      pen.strokeStyle = "#ff9d2e";
      pen.lineWidth = 1.5;
      pen.strokeRect(margin, margin + (at - v.top) * field, side, field);
      pen.strokeRect(margin + (at - v.left) * field, margin, field, side);
    }
    if (document.activeElement === this.canvas) mark(...this.cursor, "#fff");
    pen.restore();
    if (margin > 8) this.drawNames(pen, style.color, margin, field);
  }

  drawNames(pen, ink, margin, field) {
    const v = this.view, size = Math.max(9, Math.min(13, field * 0.8));
    const short = name => {  // the middle is left out: many names begin, and many end, alike
      const width = pen.measureText(name).width, room = margin - 8;
      if (width <= room) return name;
      const half = Math.floor((name.length * room / width - 2) / 2);
      return name.slice(0, half) + "\u2026" + name.slice(-half);
    };
    const every = Math.ceil((size + 1) / field);
    pen.fillStyle = ink;
    pen.font = `${size}px system-ui, sans-serif`;
    pen.textBaseline = "middle";
    for (let at = 0; at < this.size; at += every) {
      const name = short(this.data.names[this.order[at]]);
      const y = margin + (at + 0.5 - v.top) * field, x = margin + (at + 0.5 - v.left) * field;
      pen.textAlign = "right";
      if (y > margin && y < this.canvas.clientWidth) pen.fillText(name, margin - 5, y);
      if (x > margin && x < this.canvas.clientWidth) {
        pen.save();
        pen.translate(x, margin - 5);
        pen.rotate(-Math.PI / 2);
        pen.textAlign = "left";
        pen.fillText(name, 0, 0);
        pen.restore();
      }
    }
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect(), margin = this.margin();
    const side = box.width - margin, v = this.view;
    const x = (event.clientX - box.left - margin) / side, y = (event.clientY - box.top - margin) / side;
    return { x, y, column: Math.floor(v.left + x * v.span), row: Math.floor(v.top + y * v.span) };
  }

  listen() {
    const on = (selector, kind, act) => this.box.querySelector(selector).addEventListener(kind, act);
    on(".search", "input", event => this.search(event.target.value));
    on(".sort", "change", event => { this.sortBy(event.target.value); this.draw(); });
    on(".in", "click", () => this.zoom(0.6));
    on(".out", "click", () => this.zoom(1 / 0.6));
    on(".all", "click", () => this.showAll());
    this.canvas.addEventListener("wheel", event => {
      if (!event.ctrlKey && document.activeElement !== this.canvas) return;  // the page itself scrolls
      event.preventDefault();
      const { x, y } = this.at(event);
      this.zoom(event.deltaY > 0 ? 1.25 : 0.8, x, y);
    }, { passive: false });
    this.fingers = new Map();
    this.canvas.addEventListener("pointerdown", event => {
      this.canvas.setPointerCapture(event.pointerId);
      this.fingers.set(event.pointerId, event);
      this.point(event);
    });
    this.canvas.addEventListener("pointermove", event => this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(kind, event => this.fingers.delete(event.pointerId));
    }
    this.canvas.addEventListener("keydown", event => this.press(event));
    for (const kind of ["focus", "blur"]) this.canvas.addEventListener(kind, () => this.draw());
  }

  point(event) {
    const { row, column } = this.at(event);
    if (row >= 0 && column >= 0 && row < this.size && column < this.size) {
      this.cursor = [row, column];
      this.readout.textContent = this.tellField(row, column);
    }
  }

  move(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before) { this.point(event); return; }
    const scale = this.view.span / (this.canvas.clientWidth - this.margin());
    if (this.fingers.size === 2) {
      const [other] = [...this.fingers.values()].filter(finger => finger.pointerId !== event.pointerId);
      const apart = finger => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY);
      this.zoom(apart(before) / Math.max(1, apart(event)));
    } else {
      this.view.left -= (event.clientX - before.clientX) * scale;
      this.view.top -= (event.clientY - before.clientY) * scale;
      this.clamp();
    }
    this.fingers.set(event.pointerId, event);
  }

  press(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key === "+" || event.key === "=") this.zoom(0.6);
    else if (event.key === "-") this.zoom(1 / 0.6);
    else if (event.key in steps) {
      this.cursor = this.cursor.map((at, i) => Math.max(0, Math.min(this.size - 1, at + steps[event.key][i])));
      const [row, column] = this.cursor, v = this.view;
      v.top = Math.min(row, Math.max(v.top, row + 1 - v.span));
      v.left = Math.min(column, Math.max(v.left, column + 1 - v.span));
      this.readout.textContent = this.tellField(row, column);
      this.clamp();
    } else return;
    event.preventDefault();
  }
}

const FIRST = 20;  // rows of the table before more are asked for

class Samples {
  constructor(box) {
    this.box = box;
    this.data = JSON.parse(box.querySelector("script").textContent);
    this.shown = FIRST;
    this.key = 2;
    this.rising = true;
    box.querySelector(".search").addEventListener("input", () => { this.shown = FIRST; this.draw(); });
    box.querySelector(".only").addEventListener("change", () => { this.shown = FIRST; this.draw(); });
    box.querySelector(".more").addEventListener("click", () => { this.shown += 200; this.draw(); });
    box.querySelectorAll("th button").forEach((button, key) => button.addEventListener("click", () => {
      this.rising = this.key === key ? !this.rising : true;
      this.key = key;
      this.draw();
    }));
    this.draw();
  }

  row([label, answer, share, path]) {
    return [this.data.names[label], this.data.names[answer], share, path];
  }

  draw() {
    const text = this.box.querySelector(".search").value.trim().toLowerCase();
    const only = this.box.querySelector(".only").value;
    const rows = this.data.rows
      .filter(row => only === "all" || (row[0] === row[1]) === (only === "right"))
      .map(row => this.row(row))
      .filter(row => !text || (row[0] + " " + row[1] + " " + row[3]).toLowerCase().includes(text));
    const way = this.rising ? 1 : -1;
    rows.sort((a, b) => way * (this.key === 2 ? a[2] - b[2] : a[this.key].localeCompare(b[this.key])));
    const body = this.box.querySelector("tbody");
    body.replaceChildren(...rows.slice(0, this.shown).map(row => {
      const line = document.createElement("tr");
      if (row[0] !== row[1]) line.className = "miss";
      row.forEach((value, key) => {
        const cell = document.createElement("td");
        cell.textContent = key === 2 ? (100 * value).toFixed(1) + " %" : value;
        if (key === 3) cell.className = "path";
        line.append(cell);
      });
      return line;
    }));
    this.box.querySelectorAll("th").forEach((head, key) => {
      head.setAttribute("aria-sort", key !== this.key ? "none" : this.rising ? "ascending" : "descending");
    });
    this.box.querySelector(".found").textContent =
      `${rows.length} of ${this.data.rows.length} clips` + (rows.length > this.shown ? `, ${this.shown} shown` : "");
    this.box.querySelector(".more").hidden = rows.length <= this.shown;
  }
}

document.querySelectorAll(".confusion").forEach(box => { box.drawing = new Confusion(box); });
document.querySelectorAll(".samples").forEach(box => { box.table = new Samples(box); });
document.querySelectorAll(".pause").forEach(button => button.addEventListener("click", () => {
  const still = document.body.classList.toggle("still");
  document.querySelectorAll(".pause").forEach(one => { one.textContent = still ? "Play the clips" : "Pause the clips"; });
}));
