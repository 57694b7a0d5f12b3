// The approver's page. Every text from outside is put in as text, never as markup.
"use strict";

const PAUSE = 5000; // milliseconds between two looks at the TSB
const csrf = document.querySelector("meta[name=countersign]").content;
const at = (id) => document.getElementById(id);
const SIGNS = { passed: ["✓", "passed"], failed: ["✗", "failed"], "not shown": ["?", "unknown"] };
const WORDS = { passed: "Passed: ", failed: "Failed: ", "not shown": "Not known: " };

let tasks = [];
let known = "";
let open = null; // the task that is shown, as it was last seen
const decided = [];

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function closes(task) {
  if (!task.closes) return "No end is known";
  const minutes = Math.round((Date.parse(task.closes) - Date.now()) / 60000);
  const when = `${task.closes.replace("T", " ").slice(0, 16)} UTC`;
  if (minutes < 0) return `${when}, closed`;
  if (minutes < 120) return `${when}, in ${minutes} min`;
  return `${when}, in ${Math.round(minutes / 60)} h`;
}

function name(task) {
  return task.subject || task.keyLabel || task.taskId;
}

// The list ----------------------------------------------------------------------------------------

function line(task) {
  const link = element("a");
  link.href = `#${encodeURIComponent(task.taskId)}`;
  link.append(element("strong", name(task)));
  link.append(element("span", `Key ${task.keyLabel || "not known"}`, "dim"));
  link.append(element("span", `Requested by ${task.requester || "not known"}`, "dim"));
  link.append(element("span", `Closes ${closes(task)}`, "dim"));
  link.append(element("span", task.verdict, task.refused ? "failed" : "passed"));
  const item = element("li");
  item.append(link);
  return item;
}

function showList() {
  const focused = document.activeElement && document.activeElement.getAttribute("href");
  at("tasks").replaceChildren(...tasks.map(line));
  const again = [...document.querySelectorAll("#tasks a")].find(
    (one) => focused && focused !== "#" && one.getAttribute("href") === focused,
  );
  if (again) again.focus();
  at("nothing").hidden = tasks.length > 0;
}

// One request -------------------------------------------------------------------------------------

function group(title, checks, isRefused) {
  const made = element("details");
  const count = (result) => checks.filter((one) => one.result === result).length;
  const parts = [`${count("passed")} passed`];
  if (count("failed")) parts.unshift(`${count("failed")} failed`);
  if (count("not shown")) parts.push(`${count("not shown")} not known`);
  made.append(element("summary", `${title}: ${parts.join(", ")}`));
  made.open = count(isRefused ? "failed" : "not shown") > 0; // what the reader must see
  const list = element("ul");
  for (const one of checks) {
    const [sign, className] = SIGNS[one.result];
    const mark = element("span", sign, className);
    mark.setAttribute("aria-hidden", "true");
    const text = element("span");
    text.append(element("span", WORDS[one.result], "unseen"), one.title);
    if (one.finding) text.append(element("span", `${one.finding} [${one.code}]`, `why ${className}`));
    const item = element("li");
    item.append(mark, text);
    list.append(item);
  }
  made.append(list);
  return made;
}

function facts(task) {
  const every = task.about.map((one) => {
    const [title, ...rest] = one.split(": ");
    return [title, rest.join(": "), ""];
  });
  every.push(["SHA-256", task.requestSha256 || "not shown", "sha"]);
  every.push(["Closes", closes(task), ""]);
  return every.flatMap(([title, value, className]) => [
    element("dt", title),
    element("dd", value, className),
  ]);
}

function showRequest(task, isGone) {
  at("request-title").textContent = name(task);
  at("verdict").textContent = task.verdict;
  at("verdict").className = task.refused ? "failed" : "passed";
  at("facts").replaceChildren(...facts(task));
  const titles = [...new Set(task.checks.map((one) => one.about))];
  const of = (title) => task.checks.filter((one) => one.about === title);
  at("checks").replaceChildren(...titles.map((title) => group(title, of(title), task.refused)));
  at("gone").hidden = !isGone;
  at("actions").hidden = isGone;
  at("approve").hidden = task.refused;
}

function show(moved) {
  const wanted = decodeURIComponent(location.hash.slice(1));
  const found = tasks.find((one) => one.taskId === wanted);
  if (found && (moved || JSON.stringify(found) !== JSON.stringify(open))) {
    open = found;
    showRequest(found, false);
  } else if (!found && open && open.taskId === wanted) {
    at("gone").hidden = false;
    at("actions").hidden = true;
  }
  const inside = Boolean(wanted && open && open.taskId === wanted);
  if (!inside) open = null;
  at("request").hidden = !inside;
  at("waiting").hidden = inside;
  showList();
  if (moved) at(inside ? "request-title" : "waiting-title").focus();
}

// Talking to the command that serves this page ----------------------------------------------------

function trouble(text) {
  if (at("trouble").textContent !== text) at("trouble").textContent = text;
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The command that serves this page has ended. Start it again.");
  }
  if (answer.status === 403) {
    throw new Error("This page is no longer valid. Start the command again for another.");
  }
  let content = {};
  try {
    content = await answer.json();
  } catch {
    throw new Error(`The command that serves this page answers with ${answer.status}.`);
  }
  if (!answer.ok) throw new Error(`${content.message}. ${content.action}`);
  return content;
}

async function look() {
  try {
    const found = await ask("/tasks", { headers: { Accept: "application/json" } });
    trouble("");
    at("unreadable").hidden = found.unreadable === 0;
    at("unreadable").textContent = `Tasks that cannot be read: ${found.unreadable}`;
    const text = JSON.stringify(found.tasks);
    const isFirst = known === "";
    if (text !== known) {
      const more = found.tasks.filter((one) => !tasks.some((old) => old.taskId === one.taskId));
      known = text;
      tasks = found.tasks;
      show(isFirst && location.hash.length > 1);
      if (!isFirst && more.length) at("news").textContent = `New: ${more.map(name).join(", ")}`;
    }
  } catch (error) {
    trouble(error.message);
  }
}

async function decide(task, decision, done) {
  at("approve").disabled = at("decline").disabled = true;
  try {
    await ask(`/tasks/${encodeURIComponent(task.taskId)}/${decision}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Countersign": csrf },
      body: JSON.stringify({ requestSha256: task.requestSha256 }),
    });
    decided.unshift(`${done}: ${name(task)}, key ${task.keyLabel || "not known"}`);
    at("decided").replaceChildren(...decided.map((one) => element("li", one)));
    at("decisions").hidden = false;
    at("news").textContent = `${done}: ${name(task)}. The TSB has taken it.`;
    tasks = tasks.filter((one) => one.taskId !== task.taskId);
    open = null;
    if (location.hash) location.hash = "";
    else show(true);
  } catch (error) {
    trouble(error.message);
  } finally {
    at("approve").disabled = at("decline").disabled = false;
  }
  await look();
}

// Asking first ------------------------------------------------------------------------------------

function confirmed(title, text, yes) {
  const dialog = at("confirm");
  at("confirm-title").textContent = title;
  at("confirm-text").textContent = text;
  at("yes").textContent = yes;
  return new Promise((resolve) => {
    at("yes").onclick = () => {
      resolve(true);
      dialog.close();
    };
    at("no").onclick = () => dialog.close();
    // A browser tells later that a dialog was closed: by then the next question may be open.
    dialog.onclose = () => {
      if (!dialog.open) resolve(false);
    };
    dialog.showModal();
  });
}

at("approve").addEventListener("click", async () => {
  const task = open;
  if (await confirmed("Approve this?", task.question, "Sign and approve")) {
    await decide(task, "approve", "Approved");
  }
});

at("decline").addEventListener("click", async () => {
  const task = open;
  const text = `${name(task)}, key ${task.keyLabel || "not known"}. That cannot be taken back. The TSB`
    + " has no place for a reason: tell the requester yourself.";
  if (await confirmed("Decline this?", text, "Decline")) {
    await decide(task, "decline", "Declined");
  }
});

addEventListener("hashchange", () => show(true));
document.addEventListener("visibilitychange", () => document.hidden || look());
setInterval(() => document.hidden || look(), PAUSE);
look();
