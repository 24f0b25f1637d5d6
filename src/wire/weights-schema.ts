/** What people write about a model, checked in the same way by the command line and by the node that it goes to. */
import { z } from 'zod'
import { BENCHMARKS_MAX } from './limits.ts'

/** Results of a model card: what was measured, how much it was, in which unit. */
export const benchmarksSchema = z
  .array(z.strictObject({ name: z.string().min(1).max(100), score: z.number(), unit: z.string().max(20) }))
  .max(BENCHMARKS_MAX)

/** An SPDX expression: "Apache-2.0", "MIT OR (BSD-3-Clause AND Zlib)", "LicenseRef-Llama-3". */
export const licenceSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9 .+():-]{0,199}$/)
