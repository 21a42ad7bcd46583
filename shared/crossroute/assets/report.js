// Draws a plan. Every text of the data is put in as text, never as markup: prompts are of strangers.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const { models, curve } = data;
const baseline = models[data.baseline];
const EXAMPLES = 3;
const MOST_BARS = 12;
const WHO = "who gets it";

const fill = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const html = (name, attributes = {}, ...children) =>
  fill(document.createElement(name), attributes, children);
const svg = (name, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

// Numbers in words

const usd = (value) => {
  if (value === null) return "any price";
  if (value === 0 || value >= 1)
    return "$" + value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  return "$" + value.toFixed(Math.max(2, 1 - Math.floor(Math.log10(value))));
};
const percent = (share, digits = 0) => `${(100 * share).toFixed(digits).replace(/^-(?=[0.]*$)/, "")}\u00a0%`;
const score = (value) => (value === null ? "none" : value.toFixed(3));
const shortScore = (value) => (value === null ? "none" : String(Number(value.toFixed(2))));
const lost = (loss) => {
  const size = Math.abs(loss).toFixed(3);
  return size === "0.000" ? "as high" : `${size} ${loss > 0 ? "lower" : "higher"}`;
};
const isCounted = data.calls !== null;
const cost = (value) => usd(isCounted ? value * data.calls : value);
const each = isCounted ? "a month" : "a prompt";
const price = (value) => (value === null ? "any price" : `${usd(value)} a unit of quality`);
const table = (node, head, rows) =>
  node.replaceChildren(
    html("thead", {}, html("tr", {}, ...head.map((name) => html("th", name === WHO ? { scope: "col", class: "text" } : { scope: "col" }, name)))),
    html("tbody", {}, ...rows.map(([name, ...cells]) =>
      html("tr", {}, html("th", { scope: "row", dir: "auto" }, name), ...cells.map((cell) =>
        typeof cell === "string" ? html("td", {}, cell) : html("td", { class: "text" }, cell.text))))),
  );

// Charts

const ticks = (low, high, isLog) => {
  const found = [];
  if (isLog) {
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const times of [1, 2, 5]) found.push(times * 10 ** power);
  } else {
    const raw = (high - low) / 7;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((times) => times * unit >= raw) * unit;
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high * (1 + 1e-9); k++) found.push(k * step);
  }
  const inside = found.filter((value) => value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9));
  return inside.length > 7 ? inside.filter((value) => /^1/.test(value.toExponential())) : inside;
};

// A chart's axes, as wide as there is room; gives the places of values.
const axes = (node, x, y, names, most = 440) => {
  const width = Math.max(node.clientWidth, 280);
  const height = Math.min(Math.max(0.62 * width, 300), most);
  node.setAttribute("viewBox", `0 0 ${width} ${height}`);
  node.replaceChildren();
  const box = { left: 56, right: width - 16, top: 14, bottom: height - 58 };
  const at = (axis, low, high) => {
    const f = axis.isLog ? Math.log : (value) => value;
    const span = f(axis.high) - f(axis.low) || 1;
    return (value) => low + ((f(value) - f(axis.low)) / span) * (high - low);
  };
  const [px, py] = [at(x, box.left, box.right), at(y, box.bottom, box.top)];
  for (const value of ticks(y.low, y.high, y.isLog))
    node.append(
      svg("line", { class: "grid", x1: box.left, x2: box.right, y1: py(value), y2: py(value) }),
      svg("text", { x: box.left - 8, y: py(value) + 4, "text-anchor": "end" }, y.text(value)),
    );
  let end = -Infinity;
  for (const value of ticks(x.low, x.high, x.isLog)) {
    node.append(svg("line", { class: "grid", x1: px(value), x2: px(value), y1: box.bottom, y2: box.bottom + 5 }));
    const half = x.text(value).length * 5;
    if (px(value) - half < end || px(value) + half > width) continue;
    end = px(value) + half + 8;
    node.append(svg("text", { x: px(value), y: box.bottom + 24, "text-anchor": "middle" }, x.text(value)));
  }
  node.append(
    svg("text", { x: (box.left + box.right) / 2, y: height - 8, "text-anchor": "middle" }, names[0]),
    svg("text", { x: 14, y: (box.top + box.bottom) / 2, "text-anchor": "middle",
      transform: `rotate(-90 14 ${(box.top + box.bottom) / 2})` }, names[1]),
  );
  return { px, py, box };
};

// Names beside points, the important first; one that has no room is left out.
const label = (node, points, box) => {
  const taken = points.map(({ x, y, text }) => (text ? [x - 9, y - 6, x + 9, y + 6] : [x - 3, y - 3, x + 3, y + 3]));
  for (const { x, y, text } of points.filter((point) => point.text)) {
    const short = text.length > 26 ? text.slice(0, 25) + "…" : text;
    const name = svg("text", { class: "name" }, short);
    node.append(name);
    const width = name.getComputedTextLength() || 7.5 * short.length;
    const size = parseFloat(getComputedStyle(name).fontSize) || 13;
    const [above, below] = [y - 13, y + 11 + size];
    const places = [[x + 15, y + 4], [x - 15 - width, y + 4], [x - width / 2, above], [x - width / 2, below],
      [x + 6, above], [x + 6, below], [x - 6 - width, above], [x - 6 - width, below]];
    const free = places.find(([left, bottom]) => {
      const edge = [left, bottom - size, left + width, bottom + 3];
      return edge[0] >= box.left && edge[2] <= box.right + 12 && edge[1] >= box.top - 12 && edge[3] <= box.bottom &&
        !taken.some((one) => one[0] < edge[2] && one[2] > edge[0] && one[1] < edge[3] && one[3] > edge[1]);
    });
    if (!free) { name.remove(); continue; }
    name.setAttribute("x", free[0]);
    name.setAttribute("y", free[1]);
    taken.push([free[0], free[1] - size, free[0] + width, free[1] + 3]);
  }
};

const drawCurve = () => {
  const node = byId("curve");
  const places = curve ? curve.cost.map((value, i) => [value, curve.quality[i]]) : [];
  const all = [...places, ...data.singles.map((one) => [one.cost, one.quality])];
  const costs = all.map(([value]) => value);
  const heights = all.map(([, value]) => value);
  const [cheapest, dearest] = [Math.min(...costs), Math.max(...costs)];
  const isLog = cheapest > 0 && dearest / cheapest > 8;
  const room = Math.max(0.06 * (Math.max(...heights) - Math.min(...heights)), 0.005);
  const x = isLog
    ? { low: cheapest / 1.15, high: dearest * 1.15, isLog, text: usd }
    : { low: 0, high: 1.05 * dearest || 1, isLog, text: usd };
  const y = { low: Math.max(Math.min(...heights) - room, Math.min(0, ...heights)),
    high: Math.max(...heights) + room, isLog: false, text: (value) => String(Number(value.toFixed(4))) };
  const { px, py, box } = axes(node, x, y,
    [`mean cost of a prompt in USD${isLog ? ", log scale" : ""}`, "mean score"]);
  if (curve) {
    const path = places.map(([a, b]) => `${px(a).toFixed(1)},${py(b).toFixed(1)}`).join(" ");
    node.append(svg("polyline", { class: "line", points: path }));
  }
  const best = (one) => !data.singles.some((other) => other.cost <= one.cost && other.quality > one.quality);
  const points = data.singles.map((one) => {
    const isBase = one.model === data.baseline;
    const isChosen = one.model === data.single;
    const [cx, cy] = [px(one.cost), py(one.quality)];
    const title = svg("title", {}, `${models[one.model]}: ${score(one.quality)} for ${usd(one.cost)}`);
    node.append(isBase
      ? svg("rect", { class: "base", x: cx - 6, y: cy - 6, width: 12, height: 12 }, title)
      : svg("circle", { class: "single", cx, cy, r: 5 }, title));
    if (isChosen) node.append(svg("circle", { class: "ring", cx, cy, r: 11 }));
    return { x: cx, y: cy, text: models[one.model], rank: isBase || isChosen ? 0 : best(one) ? 1 : 2 };
  });
  let move = () => {};
  if (curve) {
    if (curve.recommended !== null)
      node.append(svg("circle", { class: "ring", r: 11, id: "recommended",
        cx: px(curve.cost[curve.recommended]), cy: py(curve.quality[curve.recommended]) }));
    const point = svg("circle", { class: "point", r: 7.5, id: "point" });
    move = (place) => fill(point, { cx: px(curve.cost[place]), cy: py(curve.quality[place]) }, []);
    node.append(point);
  }
  const onLine = places.map(([a, b]) => ({ x: px(a), y: py(b), text: "", rank: 3 }));
  label(node, [...points, ...onLine].sort((a, b) => a.rank - b.rank), box);
  return move;
};

const drawLegend = () => {
  const key = (shape, text) => html("span", {}, svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, shape), text);
  byId("curve-legend").append(
    ...(curve ? [key(svg("line", { class: "line", x1: 1, x2: 23, y1: 12, y2: 12 }), "router"),
      key(svg("circle", { class: "point", cx: 12, cy: 12, r: 8 }), "at the slider")] : []),
    ...(curve?.recommended != null || data.single !== null
      ? [key(svg("circle", { class: "ring", cx: 12, cy: 12, r: 9 }),
        data.single === data.baseline ? "kept" : "recommended")] : []),
    key(svg("rect", { class: "base", x: 6, y: 6, width: 12, height: 12 }), `${baseline}, the baseline`),
    key(svg("circle", { class: "single", cx: 12, cy: 12, r: 6 }), "other single models"),
  );
};

const showSingles = () => {
  byId("curve-text").textContent = curve
    ? `The line is the router ${curve.router} (${curve.reward} reward) at each willingness to pay. ` +
      "Up is better, left is cheaper. All figures are of prompts from which nothing was learned." +
      (data.single === null ? "" : ` The ring is at ${models[data.single]}; the slider shows what the router would do in its place.`)
    : "Each point is one model that answers everything. Up is better, left is cheaper.";
  table(byId("singles"), ["model", "prompts", "quality", `beside ${baseline}`, `cost ${each}`],
    data.singles.map((one) => [models[one.model], one.answers.toLocaleString("en-US"),
      score(one.quality), one.model === data.baseline ? "baseline" : lost(one.loss), cost(one.cost)]));
};

const showReliability = () => {
  const found = data.reliability;
  byId("reliability-part").hidden = false;
  byId("reliability-text").textContent =
    `${found.answers.toLocaleString("en-US")} answers to prompts from which nothing was learned, by the ` +
    "quality that the router predicted for them. On the dashed line, what is predicted is what comes; " +
    "above it, answers are better than predicted. The larger a dot, the more answers. Mean distance " +
    `from the line: ${score(found.error)}.` +
    (found.caution ? " Shown as predicted: for this plan, the router then holds back every model but " +
      "the baseline, so that a change of model has to promise more." : "");
  table(byId("bins"), ["predicted", "mean score", "answers"], found.counts.map((count, i) =>
    [score(found.predicted[i]), score(found.realised[i]), count.toLocaleString("en-US")]));
};

const drawReliability = () => {
  const found = data.reliability;
  const node = byId("reliability");
  const axis = { low: 0, high: 1, isLog: false, text: (value) => value.toFixed(1) };
  const { px, py } = axes(node, axis, axis, ["predicted quality", "mean score"], 300);
  node.append(svg("line", { class: "even", x1: px(0), y1: py(0), x2: px(1), y2: py(1) }));
  const most = Math.max(...found.counts);
  found.counts.forEach((count, i) => node.append(svg("circle", { class: "bin",
    cx: px(found.predicted[i]), cy: py(found.realised[i]), r: 4 + 14 * Math.sqrt(count / most) },
    svg("title", {}, `${count} answers: predicted ${score(found.predicted[i])}, came ${score(found.realised[i])}`))));
};

// What the slider moves

const showShares = () => {
  const most = new Map([[data.baseline, 0]]);
  for (const shares of curve.shares)
    for (const [model, share] of shares) most.set(model, Math.max(share, most.get(model) ?? 0));
  const order = [...most.keys()].sort((a, b) => (b === data.baseline) - (a === data.baseline) || most.get(b) - most.get(a));
  const shown = order.slice(0, MOST_BARS);
  const rest = order.slice(MOST_BARS);
  const bar = (name, isBase) => {
    const [value, length] = [html("span"), html("b")];
    byId("shares").append(html("li", isBase ? { class: "of-base" } : {}, html("span", {}, name), value, html("i", { "aria-hidden": "true" }, length)));
    return (share) => { value.textContent = percent(share); length.style.width = `${100 * share}%`; };
  };
  byId("shares-part").hidden = false;
  const bars = shown.map((model) => bar(models[model], model === data.baseline));
  const others = rest.length ? bar(`${rest.length} others`, false) : () => {};
  return (place) => {
    const shares = new Map(curve.shares[place]);
    shown.forEach((model, i) => bars[i](shares.get(model) ?? 0));
    others(rest.reduce((sum, model) => sum + (shares.get(model) ?? 0), 0));
  };
};

const KINDS = [
  ["cheaper", "Now cheaper, as good"],
  ["worse", "Now worse"],
  ["better", "Now better"],
];

const showExamples = () => {
  byId("examples-part").hidden = false;
  const text = byId("examples-text");
  if (!data.examples) {
    text.textContent = "A log with one answer a prompt does not say what another model would have answered to it: no single prompt can be compared.";
    return () => {};
  }
  const columns = KINDS.map(([kind, title]) => {
    const count = html("span");
    const cards = html("div");
    byId("examples").append(html("div", { "data-kind": kind }, html("h3", {}, title, count), cards));
    return { kind, count, cards };
  });
  const answer = (example, model, isNow) => {
    const [value, paid] = example.answers[model];
    const attributes = isNow ? { class: "now" } : {};
    return [html("dt", { ...attributes, title: models[model] }, `${isNow ? "now" : "before"} ${models[model]}`),
      html("dd", attributes, `${shortScore(value)} · ${usd(paid)}`)];
  };
  return (place) => {
    const shares = curve.kinds;
    text.textContent = `At this setting ${percent(1 - shares.same[place])} of the prompts go to another model than ` +
      `${baseline}; ${percent(shares.dearer[place])} are as good and not cheaper. Beside each model, its score and cost.`;
    const now = data.examples.map((example) => example.asked.findLast(([from]) => from <= place));
    for (const { kind, count, cards } of columns) {
      count.textContent = `${percent(shares[kind][place], 1)} of the prompts`;
      const found = data.examples.filter((_, i) => now[i][2] === kind).slice(0, EXAMPLES);
      const drawn = found.map((example) => {
        const model = now[data.examples.indexOf(example)][1];
        return html("article", { class: "card" }, html("p", { dir: "auto" }, example.text),
          html("dl", {}, ...answer(example, model, true), ...answer(example, data.baseline, false)));
      });
      while (drawn.length < EXAMPLES)
        drawn.push(html("p", { class: "card none" }, drawn.length ? "" : "None at this setting."));
      cards.replaceChildren(...drawn);
    }
  };
};

const showTopics = () => {
  byId("topics-part").hidden = false;
  byId("topics-text").textContent =
    `At the slider's setting, beside ${baseline}. Figures of a few prompts say little: look at those of many.`;
  return (place) =>
    table(byId("topics"), ["topic", "prompts", "saving", "mean score", WHO], data.topics.map((one) => {
      const shares = one.shares[place];
      const rest = shares.slice(3).reduce((sum, [, share]) => sum + share, 0);
      const who = shares.slice(0, 3).map(([model, share]) => `${models[model]} ${percent(share)}`);
      if (rest > 0) who.push(`others ${percent(rest)}`);
      return [one.topic, one.prompts.toLocaleString("en-US"), percent(one.saving[place]), lost(one.loss[place]), { text: who.join(", ") }];
    }));
};

// The slider: by the logarithm of the willingness to pay; it rests at settings alone.
const slide = (show) => {
  const slider = byId("slider");
  const logs = curve.willingness.map((value) => (value ? Math.log10(value) : null));
  const finite = logs.filter((value) => value !== null);
  const beyond = 0.5;
  const [low, high] = finite.length ? [Math.min(...finite), Math.max(...finite)] : [0, 0];
  const at = curve.willingness.map((value, i) => logs[i] ?? (value === 0 ? low - beyond : high + beyond));
  const last = at.length - 1;
  Object.assign(slider, { min: at[0], max: at[last], step: "any", disabled: last === 0 });
  let place = -1;
  const rest = (next) => {
    const bounded = Math.min(Math.max(next, 0), last);
    slider.value = at[bounded];
    if (bounded === place) return;
    place = bounded;
    slider.setAttribute("aria-valuetext", price(curve.willingness[place]));
    byId("reset").disabled = place === curve.start;
    show(place);
  };
  slider.addEventListener("input", () => {
    const wanted = Number(slider.value);
    rest(at.reduce((best, value, i) => (Math.abs(value - wanted) < Math.abs(at[best] - wanted) ? i : best), 0));
  });
  const page = Math.max(Math.round(at.length / 10), 1);
  const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -page, PageUp: page, Home: -at.length, End: at.length };
  slider.addEventListener("keydown", (event) => {
    if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    rest(place + steps[event.key]);
  });
  byId("reset").textContent = curve.recommended === null ? "back to the start" : "back to the recommendation";
  byId("reset").hidden = false;
  byId("reset").addEventListener("click", () => { rest(curve.start); slider.focus(); });
  byId("control").hidden = false;
  rest(curve.start);
};

let shown = curve ? curve.start : null;
let movePoint = () => {};
const draw = () => {
  movePoint = drawCurve();
  movePoint(shown);
  if (data.reliability) drawReliability();
};
drawLegend();
showSingles();
if (data.reliability) showReliability();
if (curve) {
  byId("cost-name").textContent = each;
  const parts = [showShares(), showExamples(), showTopics()];
  slide((place) => {
    shown = place;
    movePoint(place);
    const [saving, loss] = [curve.saving[place], curve.loss[place]];
    byId("willingness").textContent = price(curve.willingness[place]);
    byId("saving").textContent = percent(saving);
    byId("loss").textContent = lost(loss);
    byId("quality").textContent = score(curve.quality[place]);
    byId("cost").textContent = cost(curve.cost[place]);
    byId("said").textContent = `At ${price(curve.willingness[place])}: saves ${percent(saving)} of the cost of ` +
      `${baseline}; mean score ${score(curve.quality[place])}, ${lost(loss)}; ${cost(curve.cost[place])} ${each}.`;
    for (const part of parts) part(place);
  });
}
draw();
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== width) draw();
  width = innerWidth;
});
