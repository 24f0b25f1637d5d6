#!/usr/bin/env node
/*
 * The command `koinon`. Plain syntax that Node 12 can parse, because an old Node must get as far as this file's
 * sentence: the program itself is TypeScript, which Node runs from version 24 on. Where the Node in use is older but
 * npm has put Node 24 beside us (an optional dependency), the command runs itself again with that one.
 */
import { spawn } from 'child_process'
import { existsSync } from 'fs'
import * as nodeModule from 'module'
import { dirname, join } from 'path'
import { fileURLToPath } from 'url'
import './young-generation.mjs'

const NODE_MAJOR_MIN = 24
const here = dirname(fileURLToPath(import.meta.url))

/** The Node 24 that npm installed for this platform, or undefined. */
function bundledNode() {
  const name = 'node-' + (process.platform === 'win32' ? 'win' : process.platform) + '-' + process.arch
  const file = process.platform === 'win32' ? 'node.exe' : 'node'
  // Beside our own node_modules, or above where koinon is itself a dependency.
  for (let folder = dirname(here); ; folder = dirname(folder)) {
    const path = join(folder, 'node_modules', name, 'bin', file)
    if (existsSync(path)) return path
    if (folder === dirname(folder)) return undefined
  }
}

/** Runs this command again with another Node and ends as it ends. */
function runWith(node) {
  const child = spawn(node, [fileURLToPath(import.meta.url)].concat(process.argv.slice(2)), { stdio: 'inherit' })
  // The terminal sends Ctrl-C to both; a signal sent to us alone must be passed on, and we must outlive the child.
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']
  signals.forEach(function (signal) {
    process.on(signal, function () {
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal)
    })
  })
  child.on('error', function (error) {
    process.stderr.write('koinon: could not start ' + node + ': ' + error.message + '\n')
    process.exit(1)
  })
  child.on('exit', function (code, signal) {
    process.exit(signal === null ? code : 1)
  })
}

function runHere() {
  // Node 24 warns that node:sqlite is experimental; all other warnings are printed as usual.
  const printWarning = process.listeners('warning')
  process.removeAllListeners('warning')
  process.on('warning', function (warning) {
    if (warning.name === 'ExperimentalWarning') return
    printWarning.forEach(function (print) {
      print(warning)
    })
  })
  // Compiled code is kept between runs: three nodes that start at once compile nothing twice.
  if (nodeModule.enableCompileCache) nodeModule.enableCompileCache()
  import('../src/main.ts')
    .then(function (program) {
      return program.main()
    })
    .catch(function (error) {
      process.stderr.write('koinon: ' + (error && error.stack ? error.stack : String(error)) + '\n')
      process.exit(1)
    })
}

const major = Number(process.versions.node.split('.')[0])
if (major >= NODE_MAJOR_MIN) {
  runHere()
} else {
  const node = bundledNode()
  if (node === undefined) {
    process.stderr.write(
      'koinon: this is Node ' +
        process.versions.node +
        ', and Koinon needs Node ' +
        NODE_MAJOR_MIN +
        ' or newer: install it from https://nodejs.org, or run `npm install` in ' +
        dirname(here) +
        '\n',
    )
    process.exit(1)
  }
  runWith(node)
}
