/*
 * To be loaded before anything else by processes that run tests: the code of each of the hundreds is compiled once, not again
 * in each of them. `koinon` keeps its own so (`bin/koinon.mjs`).
 */
import { enableCompileCache } from 'node:module'

enableCompileCache()
