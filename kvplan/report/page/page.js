// What a reader chooses, and what the page then shows. No number is computed here beyond sums and products of whole ones:
// the grid in #data holds what kvplan's own commands print, and every amount of bytes is a BigInt.
(() => {
  "use strict";

  const data = JSON.parse(document.getElementById("data").textContent);
  const text = (index) => data.texts[index];
  const byId = (id) => document.getElementById(id);
  const drawn = (section) => document.querySelector(`#${section} .drawn`);

  // ---- words and numbers

  const UNITS = [["TiB", 1n << 40n], ["GiB", 1n << 30n], ["MiB", 1n << 20n], ["KiB", 1n << 10n]];
  const exact = (amount) => amount.toLocaleString("en-US");
  const size = (amount) => {
    const large = amount < 0n ? -amount : amount;
    const found = UNITS.find(([, unit]) => large >= unit);
    if (!found) return `${exact(amount)} B`;
    const hundredths = (large * 200n + found[1]) / (2n * found[1]);
    const part = String(hundredths % 100n).padStart(2, "0");
    return `${amount < 0n ? "-" : ""}${exact(hundredths / 100n)}.${part} ${found[0]}`;
  };
  const tokens = (length) => (length % 1024 || !length ? exact(length) : `${exact(length / 1024)}k`);
  const typedCount = (length) => (length % 1024 || !length ? String(length) : `${length / 1024}k`);
  const ratio = (part, whole) => Number((part * 1000000n) / (whole || 1n)) / 1000000;

  // A value of the grid at a number of sequences: what one adds, what none changes, or one value each.
  const at = (value, index) => {
    if (value === null || value === undefined) return null;
    if (Array.isArray(value)) return value[index] === null ? null : BigInt(value[index]);
    if (typeof value === "object") return BigInt(value["="]);
    return BigInt(value) * BigInt(data.batches[index]);
  };

  // ---- elements

  const el = (tag, properties = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in made && typeof value !== "string") made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return made;
  };
  const sized = (share, kind = "") => {
    const bar = el("span", { class: `bar ${kind}` });
    bar.style.width = `${Math.max(share > 0 ? 0.01 : 0, Math.min(1, share)) * 100}%`; // what is more than nothing shows
    return el("span", { class: "track", "aria-hidden": "true" }, bar);
  };
  const table = (caption, heads, rows, foot) => {
    const cell = (value, head, tag, scope) => {
      const made = el(tag, { class: `${head.number ? "r" : ""} ${head.kind ?? ""}`.trim() }, value ?? "");
      if (scope) made.setAttribute("scope", scope);
      return made;
    };
    const line = (row, tag) => el("tr", {}, row.map((value, i) => cell(value, heads[i], i ? tag : "th", i ? "" : "row")));
    const made = el(
      "table", {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, heads.map((head) => cell(head.title, head, "th", "col")))),
      el("tbody", {}, rows.map((row) => line(row, "td"))),
    );
    if (foot) made.append(el("tfoot", {}, line(foot, "td")));
    return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption }, made);
  };
  const command = (words) => el("p", { class: "command" }, "same numbers: ", el("code", {}, words));
  const refusal = (reason) => el("p", { class: "refused" }, el("strong", {}, "Not predicted. "), reason);
  const hint = (words) => (words ? el("p", { class: "note" }, words) : null);

  // ---- what is chosen

  const KEYS = ["model", "engine", "dtype", "length", "batch", "card"];
  const chosen = () => Object.fromEntries(KEYS.map((key) => [key, Math.max(0, byId(key).selectedIndex)]));
  const place = (model, engine, dtype) => (model * data.engines.length + engine) * data.dtypes.length + dtype;
  const cacheOf = (s, model = s.model, engine = s.engine) => data.caches[place(model, engine, s.dtype)];
  const startsOf = (s, model, card) => data.starts[place(model, s.engine, s.dtype) * data.cards.length + card];

  // One cell of the grid: `no` says why there is none.
  const cell = (cache, length, batch) => {
    if (cache.no !== undefined) return { no: text(cache.no), see: text(cache.see) };
    const row = cache.rows[length];
    if (row.no && row.no[batch] !== null) return { no: text(row.no[batch]), see: "" };
    const noted = Array.isArray(row.notes) ? row.notes : row.notes.each[batch];
    return {
      total: at(row.total, batch), payload: at(row.payload, batch), beside: at(row.beside, batch),
      token: at(row.token, batch), need: at(row.need, batch),
      kinds: cache.kinds
        .map(([kind, count, which], i) => ({ kind: text(kind), count, which: text(which), bytes: at(row.kinds[i], batch) }))
        .filter((one) => one.bytes !== null),
      parts: cache.parts
        .map(([name, cause], i) => ({ name: text(name), cause: text(cause), bytes: at(row.parts[i], batch) }))
        .filter((one) => one.bytes !== null && one.bytes !== 0n),
      notes: noted.map(text),
    };
  };

  const words = (s) => `${data.batches[s.batch].toLocaleString("en-US")} x ${data.lengths[s.length].toLocaleString("en-US")} tokens`;
  const asked = (s, which = s.engine) => {
    const engines = which === "all" ? data.engines : [data.engines[which]];
    const dtype = text(data.dtypes[s.dtype].name) === "auto" ? "" : ` --kv-dtype ${text(data.dtypes[s.dtype].typed)}`;
    const more = [...new Set(engines.map((one) => text(one.more)).filter(Boolean))];
    return ` -e ${engines.map((one) => text(one.typed)).join(",")}${dtype}${more.map((words) => ` ${words}`).join("")}`;
  };
  const held = (s) => ` -s ${typedCount(data.lengths[s.length])} -b ${data.batches[s.batch]}`;
  const fitted = () => (text(data.fitted) ? ` ${text(data.fitted)}` : "");
  const every = () => data.models.map((one) => text(one.typed)).join(" ");

  // ---- the sections

  function said(s) {
    const cache = cacheOf(s);
    const found = cell(cache, s.length, s.batch);
    const what = `${text(data.models[s.model].name)} · ${text(data.engines[s.engine].words)}`;
    if (found.no !== undefined) return [el("b", {}, "not predicted"), ` ${what}: ${found.no}`];
    return [
      el("b", {}, size(found.total)), ` = `, el("span", { id: "total" }, exact(found.total)), ` bytes · ${what} · ` +
      `${text(cache.stored)} · ${words(s)} · evidence: ${text(cache.evidence)}`,
    ];
  }

  function kinds(s) {
    const found = cell(cacheOf(s), s.length, s.batch);
    const typed = command(`kvplan estimate ${text(data.models[s.model].typed)}${asked(s)}${held(s)}`);
    if (found.no !== undefined) return [refusal(found.no), hint(found.see), typed];
    const heads = [
      { title: "kind of layer" }, { title: "layers", number: true }, { title: "which" }, { title: "share", kind: "picture" },
      { title: "cache", number: true }, { title: "bytes", number: true },
    ];
    const rows = found.kinds.map((one) => [
      one.kind, one.count ? exact(one.count) : "", one.which, sized(ratio(one.bytes, found.total)), size(one.bytes), exact(one.bytes),
    ]);
    const title = `${text(data.models[s.model].name)}, ${words(s)}`;
    return [
      table(title, heads, rows, ["total", "", "", "", size(found.total), exact(found.total)]),
      el("ul", { class: "notes" },
        el("li", {}, `each further token of a sequence: ${exact(found.token)} B`),
        found.beside ? el("li", {}, `small tensors beside the cache: ${exact(found.beside)} B`) : null,
        found.notes.map((note) => el("li", {}, note))),
      typed,
    ];
  }

  function all(s) {
    const cells = data.models.map((_, model) => cell(cacheOf(s, model), s.length, s.batch));
    const largest = cells.reduce((most, one) => (one.total > most ? one.total : most), 0n);
    const heads = [
      { title: "model", kind: "name" }, { title: "share of the largest", kind: "picture" }, { title: "cache", number: true },
      { title: "bytes", number: true }, { title: "B/token", number: true }, { title: "evidence, or why not" },
    ];
    const rows = cells.map((one, model) => {
      const name = text(data.models[model].name);
      if (one.no !== undefined) return [name, "", "not predicted", "", "", one.no];
      const cache = cacheOf(s, model);
      return [name, sized(ratio(one.total, largest)), size(one.total), exact(one.total), exact(one.token), text(cache.evidence)];
    });
    const title = `${text(data.engines[s.engine].words)}, ${words(s)}`;
    return [table(title, heads, rows), command(`kvplan compare ${every()}${asked(s)}${held(s)}`)];
  }

  let between = "models"; // what the curves are of
  let plot = null;

  function lines(s) {
    const of = between === "models" ? data.models : data.engines;
    return of
      .map((one, i) => ({
        name: text(between === "models" ? one.name : one.words),
        cells: data.lengths.map((_, length) => cell(between === "models" ? cacheOf(s, i) : cacheOf(s, s.model, i), length, s.batch)),
        mine: i === (between === "models" ? s.model : s.engine),
      }));
  }

  function growth(s) {
    const found = lines(s);
    const place = drawn("growth");
    if (plot) plot.destroy();
    plot = null;
    const choice = (key, label) => {
      const made = el("input", { type: "radio", name: "between", id: `between-${key}`, value: key, checked: between === key });
      made.addEventListener("change", () => { between = key; show(); byId(`between-${key}`).focus(); });
      return [made, el("label", { for: `between-${key}` }, label)];
    };
    const figure = el("div", { class: "plot", role: "img", "aria-label": "Curves of the cache over the tokens of a request; the table beneath has every number" });
    const legend = el("ul", { class: "legend" }, found.map((one, i) => {
      const cell = one.cells[s.length];
      return el("li", { class: one.mine ? "mine" : "" }, stroke(i), `${one.name}: ${cell.no === undefined ? size(cell.total) : "not predicted"}`);
    }));
    const heads = [{ title: "tokens" }, ...found.map((one) => ({ title: one.name, number: true }))];
    const rows = data.lengths.map((length, i) => [
      exact(length), ...found.map((one) => (one.cells[i].no === undefined ? exact(one.cells[i].total) : "not predicted")),
    ]);
    const over = data.lengths.map(typedCount).join(",");
    const grid = `-s ${over} -b ${data.batches[s.batch]}`;
    const typed = between === "models"
      ? `kvplan compare ${every()}${asked(s)} ${grid}`
      : `kvplan compare ${text(data.models[s.model].typed)}${asked(s, "all")} ${grid}`;
    place.replaceChildren(
      el("fieldset", { class: "choice" }, el("legend", {}, "Curves of"), choice("models", "models"), choice("engines", "engines")),
      figure, legend,
      el("details", { class: "numbers" }, el("summary", {}, "The numbers, in bytes"), table(`bytes of ${data.batches[s.batch]} at once`, heads, rows)),
      command(typed),
    );
    draw(figure, found);
  }

  // A curve's mark in the legend: its colour and its dashes.
  function stroke(index) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    for (const [name, value] of [["x1", 0], ["x2", 32], ["y1", 6], ["y2", 6], ["stroke-width", 3], ["stroke-dasharray", DASHES[index % DASHES.length].join(" ")]]) {
      line.setAttribute(name, value);
    }
    made.setAttribute("class", `stroke l${index % 8}`);
    made.setAttribute("viewBox", "0 0 32 12");
    made.setAttribute("aria-hidden", "true");
    made.append(line);
    return made;
  }

  const DASHES = [[], [8, 4], [2, 3], [8, 3, 2, 3], [12, 4], [4, 4], [2, 6], [10, 2, 2, 2]];

  function draw(figure, found) {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const of = (one) => (one.no !== undefined || one.total <= 0n ? null : Number(one.total));
    const axis = { stroke: color("--dim"), grid: { stroke: color("--rule"), width: 1 }, ticks: { stroke: color("--rule"), width: 1 }, font: "13px system-ui, sans-serif" };
    const shown = found.map((one) => one.cells.map(of));
    if (!shown.some((row) => row.some((value) => value !== null)) || data.lengths.some((length) => length < 1)) {
      figure.replaceChildren("nothing to draw at these settings");
      return;
    }
    const options = {
      width: Math.max(240, figure.clientWidth), height: 320, legend: { show: false },
      cursor: { show: false }, padding: [12, 16, 0, 0],
      scales: { x: { time: false, distr: 3, log: 2 }, y: { distr: 3, log: 2 } },
      axes: [
        { ...axis, splits: () => data.lengths, filter: (u, splits) => splits, values: (u, splits) => splits.map((v, i) => (splits.length > 8 && i % 2 ? "" : tokens(v))) },
        { ...axis, size: 84, filter: (u, splits) => splits, values: (u, splits) => splits.map((v, i) => (i % Math.ceil(splits.length / 9) ? "" : size(BigInt(Math.round(v))).replace(".00", ""))) },
      ],
      series: [{}, ...found.map((one, i) => ({
        label: one.name, stroke: color(`--s${i % 8}`), width: one.mine ? 3 : 1.5, dash: DASHES[i % DASHES.length],
        points: { show: true, size: one.mine ? 7 : 5, fill: color(`--s${i % 8}`) }, spanGaps: false,
      }))],
    };
    plot = new uPlot(options, [data.lengths, ...shown], figure);
  }

  function beyond(s) {
    const cache = cacheOf(s);
    const found = cell(cache, s.length, s.batch);
    if (found.no !== undefined) return [refusal(found.no)];
    if (found.need === null) return [el("p", {}, "This is what the model must remember: nothing is taken beyond it.")];
    const most = found.total > found.need ? found.total : found.need;
    const heads = [
      { title: "part" }, { title: "cause" }, { title: "share", kind: "picture" }, { title: "cache", number: true },
      { title: "bytes", number: true }, { title: "of what is needed", number: true },
    ];
    const row = (name, cause, bytes, kind) => {
      const large = bytes < 0n ? -bytes : bytes;
      return [name, cause, sized(ratio(large, most), kind), size(bytes), exact(bytes), `${(ratio(bytes, found.need) * 100).toFixed(1)}%`];
    };
    const rows = [
      row("needed", "what must be remembered, once", found.need, "needed"),
      ...found.parts.map((one) => row(one.name, one.cause, one.bytes, one.bytes < 0n ? "saved" : "waste")),
    ];
    const foot = ["total", "", "", size(found.total), exact(found.total), `${(ratio(found.total, found.need) * 100).toFixed(1)}%`];
    return [table(`${text(data.models[s.model].name)} in ${text(data.engines[s.engine].words)}, ${words(s)}`, heads, rows, foot)];
  }

  const line = (index) => {
    const [name, bytes, low, high, basis, source] = data.lines[index];
    return { name: text(name), bytes: BigInt(bytes), low: BigInt(low), high: BigInt(high), basis: text(basis), source: text(source) };
  };
  const span = (one) => (one.low === one.high ? "exact" : `${size(one.low)} to ${size(one.high)}`);
  const requests = (one) => (one.best === undefined ? "" : one.low === one.high ? exact(one.best) : `${exact(one.low)}-${exact(one.high)}`);

  function verdict(s, one) {
    const where = text(data.cards[s.card].name);
    const length = exact(data.lengths[s.length]);
    const wanted = data.batches[s.batch];
    const state = text(one.is);
    if (one.best === undefined) return `${state} on ${where}${one.why === undefined ? "" : `: ${text(one.why)}`}`;
    const range = one.low === one.high ? exact(one.best) : `${exact(one.best)} (${exact(one.low)} to ${exact(one.high)})`;
    const mine = wanted <= one.low ? "fit" : wanted <= one.best ? "fit at the best value of the bands, not at their low end"
      : wanted <= one.high ? "fit only at the high end of the bands" : "do not fit";
    return `${state} on ${where}: ${range} ${one.low === 1 && one.high === 1 ? "request" : "requests"} of ${length} tokens at once; ${exact(wanted)} ${mine}` + (one.why === undefined ? "" : `. ${text(one.why)}`);
  }

  function start(s) {
    const one = startsOf(s, s.model, s.card)[s.length];
    const good = one.best !== undefined && data.batches[s.batch] <= one.low;
    const found = [el("p", { class: good ? "verdict good" : "verdict" }, verdict(s, one))];
    const asTable = one.table ? " --table" : "";
    const typed = command(`kvplan fit ${text(data.models[s.model].typed)} --gpu ${text(data.cards[s.card].typed)}${asked(s)}${fitted()} -s ${typedCount(data.lengths[s.length])}${asTable}`);
    if (one.dealt !== undefined) found.push(el("p", { class: "note" }, text(one.dealt)));
    if (one.split !== undefined) found.push(el("p", { class: "note" }, text(one.split)));
    if (one.lines === undefined) return [...found, typed];
    const taken = one.lines.map(line);
    const left = line(one.left);
    const memory = taken[0];
    const cost = taken.slice(1);
    const whole = [memory.bytes, cost.reduce((sum, x) => sum - x.bytes, 0n)].reduce((a, b) => (a > b ? a : b));
    const picture = el("div", { class: "card", "aria-hidden": "true" });
    const piece = (bytes, kind) => {
      const made = el("span", { class: `piece ${kind}` });
      made.style.width = `${ratio(bytes > 0n ? bytes : 0n, whole) * 100}%`;
      picture.append(made);
    };
    cost.forEach((x, i) => piece(-x.bytes, `c${i % 6}${x.low === x.high ? "" : " band"}`));
    const sure = left.low > 0n ? left.low : 0n;
    piece(sure, "left");
    if (left.bytes > sure) piece(left.bytes - sure, "left band");
    const heads = [
      { title: "line", kind: "line" }, { title: "memory", number: true }, { title: "bytes", number: true },
      { title: "from, to", kind: "name" }, { title: "basis" }, { title: "source", kind: "source" },
    ];
    const row = (x, key, name = x.name) => [
      el("span", {}, key ? el("span", { class: `key ${key}`, "aria-hidden": "true" }) : null, name),
      size(x.bytes), exact(x.bytes), span(x), x.basis, x.source,
    ];
    const rows = [row(memory, ""), ...cost.map((x, i) => row(x, `c${i % 6}${x.low === x.high ? "" : " band"}`))];
    const foot = [el("span", {}, el("span", { class: "key left", "aria-hidden": "true" }), "for the cache"), size(left.bytes), exact(left.bytes), span(left), left.basis, "what is left"];
    const title = `${text(data.models[s.model].name)} · ${text(data.engines[s.engine].words)} · ${text(data.cards[s.card].name)}`;
    found.push(picture, table(title, heads, rows, foot));
    if (one.beside !== undefined) {
      found.push(table("not in that sum", heads, one.beside.map((index) => row(line(index), ""))));
    }
    return [...found, typed];
  }

  function fits(s) {
    const heads = [{ title: "GPU" }, ...data.lengths.map((length) => ({ title: tokens(length), number: true }))];
    const made = el("table", { class: "heat" }, el("caption", {}, `requests at once, by tokens of each · ${text(data.engines[s.engine].words)}`));
    made.append(el("thead", {}, el("tr", {}, heads.map((head, i) =>
      el("th", { scope: "col", class: `${head.number ? "r" : ""}${i - 1 === s.length ? " mine" : ""}` }, head.title)))));
    const body = el("tbody", {});
    const reasons = new Map();
    data.models.forEach((model, m) => data.cards.forEach((card, c) => {
      const cells = startsOf(s, m, c);
      const row = el("tr", { class: m === s.model && c === s.card ? "mine" : "" }, el("th", { scope: "row" }, text(card.name)));
      if (!c) body.append(el("tr", { class: "group" }, el("th", { scope: "rowgroup", colspan: String(data.lengths.length + 1) }, text(model.name))));
      for (const one of cells) {
        const state = text(one.is);
        const none = state === "not predicted" || state === "not known";
        const shown = none ? "-" : one.best === undefined ? (state === "fits" ? "any" : "0") : requests(one);
        const level = one.best ? Math.min(6, 1 + Math.floor(Math.log2(one.best) / 2)) : 0;
        row.append(el("td", { class: `r h${level}${state === "unsure" ? " unsure" : ""}` }, shown));
        if (none && one.why !== undefined) reasons.set(text(one.why), [...(reasons.get(text(one.why)) ?? []), text(model.name)]);
      }
      body.append(row);
    }));
    made.append(body);
    const notes = el("ul", { class: "notes" },
      el("li", {}, "12-14: fewest to most, over what the server may leave for its cache; 0: not even one; any: the cache does not grow with the requests"),
      [...reasons].slice(0, 6).map(([reason, names]) => el("li", {}, `- : ${[...new Set(names)].join(", ")}: ${reason}`)));
    const cards = data.cards.map((card) => text(card.name)).join(",");
    const lengths = data.lengths.map(typedCount).join(",");
    return [
      el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "What fits where" }, made), notes,
      command(`kvplan fit ${every()} --gpu ${quoted(cards)}${asked(s)}${fitted()} -s ${lengths} --table`),
    ];
  }

  const quoted = (words) => (/^[\w.,:@/+-]+$/.test(words) ? words : `'${words.replaceAll("'", "'\"'\"'")}'`);

  // ---- all of it

  function show() {
    const s = chosen();
    byId("said").replaceChildren(...said(s));
    drawn("kinds").replaceChildren(...kinds(s).filter(Boolean));
    drawn("all").replaceChildren(...all(s));
    growth(s);
    drawn("beyond").replaceChildren(...beyond(s));
    if (data.cards.length) {
      drawn("start").replaceChildren(...start(s));
      drawn("fits").replaceChildren(...fits(s));
    }
  }

  function fill(id, names, first) {
    const select = byId(id);
    select.replaceChildren(...names.map((name) => el("option", {}, name)));
    select.selectedIndex = Math.max(0, first);
    select.addEventListener("change", show);
    select.closest("p").hidden = !names.length;
  }

  const nearest = (values, wanted) => values.indexOf(values.filter((value) => value <= wanted).pop() ?? values[0]);
  fill("model", data.models.map((one) => text(one.name)), 0);
  fill("engine", data.engines.map((one) => text(one.words)), 0);
  fill("dtype", data.dtypes.map((one) => text(one.name)), 0);
  fill("length", data.lengths.map(exact), nearest(data.lengths, 32768));
  fill("batch", data.batches.map(exact), 0);
  fill("card", data.cards.map((one) => text(one.name)), 0);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  show();

  // Curves are pictures: drawn again where their place or the colours change, and in print.
  const again = () => growth(chosen());
  let width = drawn("growth").clientWidth;
  new ResizeObserver(() => {
    if (drawn("growth").clientWidth !== width) {
      width = drawn("growth").clientWidth;
      again();
    }
  }).observe(drawn("growth"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  let closed = [];
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printed");
    again();
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printed");
    closed.forEach((one) => { one.open = false; });
    again();
  });
})();
