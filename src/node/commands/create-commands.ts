/** All commands of Koinon itself, over the running node. A new one is a file here and a line below. */
import type { Command } from '#protocol'
import { auditChallenge } from './audit-challenge.ts'
import { executeTask } from './execute-task.ts'
import { findNodes } from './find-nodes.ts'
import { getCapabilities } from './get-capabilities.ts'
import { getFileMetadata } from './get-file-metadata.ts'
import { getReputation } from './get-reputation.ts'
import { inferenceRequest } from './inference-request.ts'
import { listFiles } from './list-files.ts'
import { loadShard } from './load-shard.ts'
import { requestPiece } from './request-piece.ts'
import type { CommandServices } from './services.ts'
import { updateReputation } from './update-reputation.ts'

/** By type. */
export function createCommands(services: CommandServices): Command[] {
  return [
    getCapabilities(services),
    executeTask(services),
    getReputation(services),
    updateReputation(services),
    findNodes(services),
    listFiles(services),
    getFileMetadata(services),
    requestPiece(services),
    loadShard(services),
    inferenceRequest(services),
    auditChallenge(services),
  ]
}
