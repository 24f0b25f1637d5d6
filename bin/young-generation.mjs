/*
 * To be loaded before anything else by a process that carries bulk. What goes through a node lies outside V8's heap, held
 * by small objects in its young generation. In a large one those die late, and V8, which counts what they hold, marks the
 * whole heap again and again: a small one lets two to three times as many bytes a second through
 * (docs/decisions/0006). The young generation never shrinks, so it must not grow; given to `node` as an option the same
 * flag does nothing.
 */
import { setFlagsFromString } from 'v8'

setFlagsFromString('--semi-space-growth-factor=1')
