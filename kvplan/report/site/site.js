"use strict";
/* The lists of a site: a search and an order for the index, and what fits a card. Text goes in as text, never as HTML. */
(function () {
  function byId(id) { return document.getElementById(id); }
  function wanted(field) { return field.value.toLowerCase().split(/\s+/).filter(Boolean); }
  function grouped(value) { return typeof value === "number" ? value.toLocaleString("en-US") : String(value); }

  function index(table) {
    var body = table.tBodies[0], rows = Array.from(body.rows), words = byId("words"), family = byId("family"), layout = byId("layout");
    var texts = rows.map(function (row) { return (row.textContent + " " + (row.dataset.hub || "")).toLowerCase(); });
    function find() {
      var parts = wanted(words), shown = 0;
      rows.forEach(function (row, i) {
        var fits = parts.every(function (part) { return texts[i].includes(part); });
        fits = fits && (!family.value || row.cells[1].textContent === family.value);
        fits = fits && (!layout.value || row.cells[2].textContent.split(", ").includes(layout.value));
        row.hidden = !fits;
        shown += fits;
      });
      byId("count").textContent = shown + " of " + rows.length + " models";
    }
    function value(row, column) {
      var cell = row.cells[column], by = cell.dataset.by;
      return by !== undefined ? Number(by) : column > 2 && cell.textContent === "" ? -1 : cell.textContent;
    }
    Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.textContent = "";
      head.append(button);
      button.addEventListener("click", function () {
        var down = head.getAttribute("aria-sort") === "ascending";
        Array.from(table.tHead.rows[0].cells).forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        var order = rows.slice().sort(function (a, b) {
          var x = value(a, column), y = value(b, column);
          var found = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
          return down ? -found : found;
        });
        body.append.apply(body, order);
      });
    });
    [words, family, layout].forEach(function (field) { field.addEventListener("input", find); });
    byId("find").addEventListener("submit", function (event) { event.preventDefault(); });
    find();
  }

  function cards(table, data) {
    var body = table.tBodies[0], fields = ["card", "engine", "length", "least", "words"].map(byId);
    function low(held) { return Array.isArray(held) ? held[0] : held; }
    function number(held) { return held === "any" ? Infinity : typeof held === "number" ? held : /^\d+$/.test(held) ? Number(held) : 0; }
    function show() {
      var card = Number(fields[0].value), engine = Number(fields[1].value), length = Number(fields[2].value);
      var least = Math.max(1, Number(fields[3].value) || 1), parts = wanted(fields[4]), other = {}, found = [];
      data.models.forEach(function (model) {
        var held = model.held[(engine * data.cards.length + card) * data.lengths.length + length];
        var text = (model.name + " " + model.family).toLowerCase();
        if (!parts.every(function (part) { return text.includes(part); })) return;
        if (number(low(held)) >= least) found.push([model, held]);
        else if (typeof held === "string" && !/^\d+$/.test(held)) other[held] = (other[held] || 0) + 1;
        else other["fewer"] = (other["fewer"] || 0) + 1;
      });
      found.sort(function (a, b) { return number(low(b[1])) - number(low(a[1])) || a[0].name.localeCompare(b[0].name, "en", { numeric: true }); });
      body.replaceChildren.apply(body, found.map(function (pair) {
        var row = document.createElement("tr"), head = document.createElement("th"), link = document.createElement("a");
        head.scope = "row";
        link.href = "models/" + pair[0].file + ".html";
        link.textContent = pair[0].name;
        head.append(link);
        row.append(head);
        [[pair[0].family, ""], [grouped(low(pair[1])), "r"], [Array.isArray(pair[1]) ? grouped(pair[1][1]) : "", "r"]].forEach(function (cell) {
          var made = document.createElement("td");
          made.className = cell[1];
          made.textContent = cell[0];
          row.append(made);
        });
        return row;
      }));
      var rest = Object.keys(other).sort().map(function (word) { return other[word] + " " + (word === "not known" ? "with weights that are not known" : word); }).join(", ");
      byId("said").textContent = found.length + (found.length === 1 ? " model holds " : " models hold ") + "at least " + grouped(least) +
        (least === 1 ? " request of " : " requests of ") + grouped(data.lengths[length]) + " tokens on " + data.cards[card] + " in " +
        data.engines[engine] + (rest ? " (others: " + rest + ")" : "");
    }
    fields.forEach(function (field) { field.addEventListener("input", show); });
    byId("controls").addEventListener("submit", function (event) { event.preventDefault(); });
    show();
  }

  if (byId("models")) index(byId("models"));
  if (byId("fits") && byId("data")) cards(byId("fits"), JSON.parse(byId("data").textContent));
})();
