// Polls the state of the run and updates what changed. Names and reasons from the run are inserted as text, never as HTML.
"use strict";

const POLL_MS = 1000, HIDDEN_MS = 15000, OFFLINE_MS = 3000;
const CARDS = 12, FAILURES = 20, SEEDS_OPENED = 12;
const FIRST_CHARTS = ["loss", "validation/knn_top1", "diagnostics/feature_std", "diagnostics/rankme_backbone"];
const STATES = ["done", "running", "silent", "interrupted", "collapsed", "diverged", "failed", "died", "queued", "planned"];

const $ = (id) => document.getElementById(id);
let state = null, etag = "", opened = null, allFailures = false, allRunning = false, announced = null, timer = 0;

// --- helpers --------------------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== ""));
  return element;
}

const name = (text) => make("bdi", {}, text);
const mark = (kind) => make("span", { class: `mark ${kind}`, "aria-hidden": "true" });
const percent = (share) => `${(100 * share).toFixed(3)}%`;

function short(value) {
  return Math.abs(value) >= 1e4 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(+value.toPrecision(4));
}

function duration(seconds) {
  if (seconds === null) return "";
  const minutes = Math.round(seconds / 60);
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// Makes the children of `parent` match `items`: creates an element with `create` for new content, keeps or moves the others.
const contents = new WeakMap();
function updateChildren(parent, items, key, create) {
  const previous = contents.get(parent) ?? new Map(), current = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const id = key(item), content = JSON.stringify(item), before = previous.get(id);
    let element = before?.element;
    if (before?.content !== content) {
      const focused = element?.contains(document.activeElement);
      const fresh = create(item);
      if (element === place) place = place?.nextElementSibling ?? null;
      element?.remove();
      element = fresh;
      parent.insertBefore(element, place);
      if (focused) element.querySelector("button")?.focus();
    } else if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
    previous.delete(id);
    current.set(id, { element, content });
  }
  for (const { element } of previous.values()) element.remove();
  contents.set(parent, current);
}

// --- curves ---------------------------------------------------------------------------------------------------------

// `lines`: [{xs, ys, colour, faint}]. The chart fills the width of its container; the text below gives the range.
function chart(title, lines, first = "", last = "") {
  const ys = lines.flatMap((line) => line.ys).filter((y) => y !== null);
  const xs = lines.flatMap((line) => line.xs);
  const box = make("div", { class: "chart" });
  if (title) box.append(make("h3", {}, name(title)));
  if (!ys.length) return box;
  const bound = (values, f) => values.reduce((a, b) => f(a, b));
  const [low, high, left, right] = [bound(ys, Math.min), bound(ys, Math.max), bound(xs, Math.min), bound(xs, Math.max)];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${title || "loss"}: between ${short(low)} and ${short(high)}, last ${short(ys.at(-1))}`);
  for (const line of lines) {
    let path = "", pen = "M";
    line.ys.forEach((y, place) => {
      if (y === null) return; // not measured at this epoch: the line continues to the next value
      const across = right > left ? (100 * (line.xs[place] - left)) / (right - left) : 50;
      path += `${pen}${across.toFixed(2)} ${(high > low ? 98 - (96 * (y - low)) / (high - low) : 50).toFixed(2)}`;
      pen = "L";
    });
    if (!path.includes("L")) path += "h0.01"; // a single epoch: a dot
    const drawn = document.createElementNS("http://www.w3.org/2000/svg", "path");
    drawn.setAttribute("d", path);
    drawn.setAttribute("stroke", line.colour);
    if (line.faint) drawn.setAttribute("class", "faint");
    svg.append(drawn);
  }
  box.append(svg, make("div", { class: "ends" }, make("span", {}, first || `epoch ${left}`),
    make("span", {}, `${short(low)} to ${short(high)}`), make("span", {}, last || `epoch ${right}`)));
  return box;
}

// --- the parts of the page ------------------------------------------------------------------------------------------

function showHead() {
  $("question").replaceChildren(name(state.question || state.name || $("question").textContent));
  document.title = `${state.planned ? `${state.recorded}/${state.planned} ` : ""}${state.name || "twinbench"} – twinbench`;
  const left = state.state === "running" && state.seconds_left ? `, about ${duration(state.seconds_left)} left` : "";
  const parts = [make("strong", {}, state.state_text.replaceAll("`", "")), left];
  if (state.planned) parts.push(` · ${state.recorded} of ${state.planned} trials recorded`);
  if (state.stages) parts.push(` (${state.stages})`);
  if (state.folder_has_report) parts.push(" · ", make("a", { href: "report/index.html" }, "open the report"));
  $("state").replaceChildren(...parts);
  $("problem").textContent = state.problem;
  $("facts").textContent = state.protocol ? `Protocol ${state.protocol}` : "";
  const counts = STATES.filter((kind) => state.counts[kind]).map((kind) => [kind, state.counts[kind]]);
  const words = counts.map(([kind, count]) => `${count} ${kind}`).join(", ");
  $("bar").setAttribute("aria-label", words || "No data yet");
  $("bar").replaceChildren(...counts.filter(([kind]) => kind !== "planned" && kind !== "queued").map(([kind, count]) => {
    const part = mark(kind);
    part.style.width = percent(count / state.planned);
    return part;
  }));
  updateChildren($("counts"), counts, ([kind]) => kind, ([kind, count]) => make("li", {}, mark(kind), ` ${count} ${kind}`));
}

const cellOf = (trialId) => state.cells.find((cell) => cell.trials.some(([, id]) => id === trialId));

function trialButton(label, trialId) {
  return make("button", { type: "button", class: "link", onclick: () => open(cellOf(trialId)?.cell_id, trialId) }, name(label));
}

function showRunning() {
  $("running-none").hidden = state.running.length > 0;
  const shown = allRunning ? state.running : state.running.slice(0, CARDS);
  $("running-all").hidden = shown.length === state.running.length;
  $("running-all").textContent = `Show all ${state.running.length}`;
  updateChildren($("running"), shown, (one) => one.trial_id, (one) => {
    const where = [one.host, one.where, one.attempt > 1 ? `attempt ${one.attempt}` : ""].filter(Boolean).join(" · ");
    const card = make("li", {}, make("h3", {}, trialButton(one.label, one.trial_id)), make("p", { class: "quiet" }, name(where)));
    if (one.state === "silent") card.append(make("p", { class: "alert" }, "no report from its worker for minutes"));
    if (one.steps && one.step !== null) {
      card.append(make("progress", { max: one.steps, value: one.step, "aria-label": `steps of ${one.label}` }));
      const figures = [`step ${one.step} of ${one.steps}`, one.epoch === null ? "" : `epoch ${one.epoch}`];
      if (one.images_per_second) figures.push(`${Math.round(one.images_per_second)} images/s`);
      if (one.step === one.steps) figures.push("evaluating");
      else if (one.seconds_left !== null) figures.push(`${duration(one.seconds_left)} left`);
      card.append(make("p", { class: "figures" }, ...figures.filter(Boolean).map((text) => make("span", {}, text))));
    } else card.append(make("p", { class: "quiet" }, "starting"));
    if (one.loss.length > 1) {
      const line = { xs: one.loss.map((_, place) => place), ys: one.loss, colour: colour(one.method) };
      card.append(chart("", [line], "loss by epoch", `now ${short(one.loss.at(-1))}`));
    }
    return card;
  });
}

const colour = (method) => state.looks[method]?.[0] ?? "currentColor";

function showFailures() {
  const shown = allFailures ? state.failures : state.failures.slice(0, FAILURES);
  $("failures-none").hidden = state.failures.length > 0;
  $("failures-all").hidden = shown.length === state.failures.length;
  $("failures-all").textContent = `Show all ${state.failures.length}`;
  updateChildren($("failures"), shown, (one) => `${one.trial_id} ${one.label}`, (one) => {
    const time = one.finished ? new Date(one.finished) : null;
    const when = time && !Number.isNaN(time.getTime()) ? ` · ${time.toLocaleString()}` : "";
    const label = one.trial_id ? trialButton(one.label, one.trial_id) : name(one.label);
    return make("li", {}, mark(one.status), ` ${one.status} `, label, make("span", { class: "quiet" }, when), make("span", { class: "reason" }, name(one.reason)));
  });
  const ids = new Set(state.failures.map((one) => `${one.trial_id} ${one.status}`));
  const fresh = announced && state.failures.filter((one) => !announced.has(`${one.trial_id} ${one.status}`));
  if (fresh?.length) {
    const more = fresh.length > 1 ? ` and ${fresh.length - 1} more` : "";
    $("announced").textContent = `New failure: ${fresh[0].label}, ${fresh[0].status}: ${fresh[0].reason}${more}`;
  }
  if (state.planned) announced = ids; // failures that are there when the page first sees a plan are not new
}

function showCells() {
  const columns = ["method", ...state.axes, "seeds", ...state.headings];
  updateChildren($("head"), columns, (column) => column, (column) => make("th", { scope: "col" }, name(column)));
  // the axes are part of every row, so that all rows are rebuilt when they change
  const rows = state.cells.map((cell) => ({ ...cell, axes: state.axes, look: state.looks[cell.method] }));
  updateChildren($("cells"), rows, (cell) => cell.cell_id, (cell) => {
    const glyph = make("span", { "aria-hidden": "true" }, cell.look[1]);
    glyph.style.color = cell.look[0];
    const button = make("button", { type: "button", class: "link", onclick: () => open(cell.cell_id) }, name(cell.method));
    const of = (kind) => cell.trials.filter(([, , its]) => its === kind).length;
    const notDone = STATES.slice(1).filter((kind) => of(kind)).map((kind) => `, ${of(kind)} ${kind}`).join("");
    const seeds = make("span", { class: "seeds", role: "img", "aria-label": `${of("done")} of ${cell.trials.length} done${notDone}` },
      ...cell.trials.map(([seed, , kind]) => { const one = mark(kind); one.title = `seed ${seed}: ${kind}`; return one; }));
    const row = make("tr", { class: cell.is_baseline ? "baseline" : "" },
      make("th", { scope: "row" }, glyph, " ", button, cell.is_baseline ? " (baseline)" : "", cell.confirms ? ", confirmed" : ""),
      ...cell.values.map((value) => make("td", {}, name(value || "–"))),
      make("td", {}, seeds),
      ...cell.estimates.map((text) => make("td", {}, text || "–")));
    row.dataset.text = `${cell.method} ${cell.values.join(" ")} ${cell.trials.map(([, id, kind]) => `${id} ${kind}`).join(" ")}`.toLowerCase();
    return row;
  });
  filter();
}

function filter() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of $("cells").rows) {
    row.hidden = !words.every((word) => row.dataset.text.includes(word));
    shown += !row.hidden;
  }
  const text = words.length ? `${shown} of ${$("cells").rows.length} cells` : "";
  if ($("filtered").textContent !== text) $("filtered").textContent = text;
}

// --- the dialog of one cell -----------------------------------------------------------------------------------------

async function open(cellId, trialId = "") {
  if (!cellId) return;
  opened = { cellId, trialId, content: "" };
  $("opened-heading").replaceChildren();
  $("opened-charts").replaceChildren();
  $("opened-trials").replaceChildren();
  contents.delete($("opened-trials"));
  if (!$("opened").open) $("opened").showModal();
  await showOpened();
}

async function showOpened() {
  const { cellId, trialId } = opened;
  const cell = state.cells.find((one) => one.cell_id === cellId);
  if (!cell) return;
  const values = cell.values.map((value, place) => (value ? ` ${state.axes[place]}=${value}` : "")).join("");
  $("opened-heading").replaceChildren(name(cell.method + values));
  const wanted = cell.trials.filter(([, id], place) => place < SEEDS_OPENED || id === trialId);
  const answers = await Promise.all(wanted.map(([, id]) => fetch(`trials/${id}.json`).then((got) => (got.ok ? got.json() : null))));
  if (opened?.cellId !== cellId || opened.trialId !== trialId) return; // the dialog was closed, or opened for another cell
  const trials = answers.filter(Boolean).map((trial) => ({ ...trial, status: cell.trials.find(([, id]) => id === trial.trial_id)[2] }));
  const content = JSON.stringify(trials);
  if (content === opened.content) return;
  opened.content = content;
  const names = new Set(trials.flatMap((trial) => Object.keys(trial.curves.series ?? {})));
  const order = [...FIRST_CHARTS.filter((one) => names.has(one)), ...[...names].filter((one) => !FIRST_CHARTS.includes(one)).sort()];
  const charts = order.map((series) => chart(series, trials.filter((trial) => trial.curves.series?.[series]?.length).map((trial) => (
    { xs: trial.curves.epoch, ys: trial.curves.series[series], colour: colour(cell.method), faint: Boolean(trialId) && trial.trial_id !== trialId }))));
  $("opened-charts").replaceChildren(...(charts.length ? charts : [make("p", { class: "quiet" }, "No epoch has finished yet, or this cell is not trained.")]));
  const left = cell.trials.length - trials.length;
  updateChildren($("opened-trials"), trials.map(({ curves, ...trial }) => trial), (trial) => trial.trial_id, (trial) => {
    const before = document.getElementById(`trial-${trial.trial_id}`);
    const box = make("details", { id: `trial-${trial.trial_id}` }, make("summary", {}, mark(trial.status), ` seed ${trial.seed}: ${trial.status}`, " ", make("span", { class: "quiet" }, trial.trial_id)));
    box.open = before ? before.open : trial.trial_id === trialId || trials.length === 1;
    if (trial.reason) box.append(make("p", { class: "alert" }, name(trial.reason)));
    if (trial.traceback) box.append(make("pre", { tabindex: "0", role: "region", "aria-label": "traceback" }, trial.traceback));
    if (trial.log) box.append(make("p", { class: "quiet" }, "End of the log"), make("pre", { tabindex: "0", role: "region", "aria-label": "end of the log" }, trial.log));
    const list = make("dl");
    for (const [key, value] of Object.entries(trial.settings)) list.append(make("dt", {}, name(key)), make("dd", {}, name(value)));
    box.append(list);
    return box;
  });
  if (left > 0) $("opened-charts").append(make("p", { class: "quiet" }, `Showing the first ${trials.length} seeds; ${left} more are in the table.`));
}

// --- polling --------------------------------------------------------------------------------------------------------

async function poll() {
  clearTimeout(timer);
  let wait = document.hidden ? HIDDEN_MS : POLL_MS;
  try {
    const answer = await fetch("state.json", { cache: "no-store", headers: etag ? { "If-None-Match": etag } : {} });
    if (answer.status === 200) {
      state = await answer.json();
      etag = answer.headers.get("ETag") ?? "";
      showHead(); showRunning(); showFailures(); showCells();
      if (opened) await showOpened();
    } else if (answer.status !== 304) throw new Error(`answer ${answer.status}`);
    if (offline) { offline = false; $("problem").textContent = state?.problem ?? ""; }
  } catch (error) {
    if (!offline) $("problem").textContent = `No answer from the server since ${new Date().toLocaleTimeString()} (${error.message}). The page shows the last state it received.`;
    offline = true;
    wait = OFFLINE_MS;
  }
  timer = setTimeout(poll, wait);
}
let offline = false;

addEventListener("DOMContentLoaded", () => {
  $("filter").addEventListener("input", filter);
  $("running-all").addEventListener("click", () => { allRunning = true; showRunning(); });
  $("failures-all").addEventListener("click", () => { allFailures = true; showFailures(); });
  $("close").addEventListener("click", () => $("opened").close());
  $("opened").addEventListener("close", () => { opened = null; });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
  poll();
});
