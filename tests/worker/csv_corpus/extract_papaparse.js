// Writes papaparse/cases.json from the tests in the npm package:
//   npm pack papaparse@5.7.1 && tar xzf papaparse-5.7.1.tgz
//   node extract_papaparse.js package/tests/test-cases.js > papaparse/cases.json
const fs = require("fs");
const vm = require("vm");

const skip = () => {};
Object.assign(skip, { skip, only: skip });
const text = fs.readFileSync(process.argv[2], "utf8") + "\n;globalThis.found = { core: CORE_PARSER_TESTS, parse: PARSE_TESTS };";
const context = vm.createContext({
  document: undefined, chai: { assert: {} }, Papa: { RECORD_SEP: "\x1e", UNIT_SEP: "\x1f" }, describe: skip, it: skip, before: skip,
  console, setTimeout, Buffer,
});
vm.runInContext(text.replace("var assert = chai.assert;", "var assert = {};"), context);
const cases = [];
for (const [suite, tests] of Object.entries(context.found)) {
  for (const { description, input, config, expected } of tests) {
    if (typeof input !== "string") continue;
    const options = config || {};
    if (Object.values(options).some((value) => typeof value === "function" || value instanceof RegExp)) continue;
    cases.push({ suite, description, input, config: options, data: expected.data, errors: (expected.errors || []).length });
  }
}
process.stdout.write(JSON.stringify(cases, null, 1) + "\n");
