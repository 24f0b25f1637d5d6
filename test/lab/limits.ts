/** Bounds of the network laboratory: nothing that a test does in it grows or waits without end. */

/** Hosts and routers of one lab. */
export const LAB_HOSTS_MAX = 64

/** Hosts behind one NAT. */
export const SITE_HOSTS_MAX = 16

/** How long one call of `ip`, `nft` or `sysctl` may take, in milliseconds: they take tens, on a busy machine more. */
export const COMMAND_TIMEOUT_MS = 20_000

/** What one such call may print, in bytes. */
export const COMMAND_OUTPUT_BYTES_MAX = 1_048_576

/** Processes that run at once in one lab. */
export const LAB_PROCESSES_MAX = 64

/** Lines of a process that wait for a reader. */
export const LINES_WAITING_MAX = 10_000

/** One line of a process, in characters. */
export const LINE_LENGTH_MAX = 1_048_576

/** The end of a process's standard error that is kept, in characters. */
export const STDERR_LENGTH_MAX = 65_536

/** How long a reader waits for a line by default, in milliseconds. */
export const LINE_TIMEOUT_MS = 30_000

/** Ports that a NAT assigns in order: so many mappings before it starts again at the first. */
export const ASSIGNED_PORTS_COUNT = 2_048

/** The first of them. All lie below Linux's ephemeral ports (32768), so a kept port and an assigned one never meet. */
export const ASSIGNED_PORTS_FIRST = 10_000

/** How long a NAT keeps an idle UDP mapping by default, in seconds (RFC 4787 REQ-5: not less than 120). */
export const UDP_MAPPING_SECONDS = 120

/** How long it keeps an idle TCP mapping, in seconds (RFC 5382 REQ-5: not less than 2 h 4 min). */
export const TCP_MAPPING_SECONDS = 7_440

/** Clients (UDP) or connections (TCP) of one delay proxy. */
export const PROXY_CLIENTS_MAX = 256

/** Bytes that one client may have in flight in a delay proxy: beyond it UDP is dropped and TCP no longer read. */
export const PROXY_BYTES_IN_FLIGHT_MAX = 4_194_304

/** The longest delay that a proxy accepts, in milliseconds. */
export const PROXY_DELAY_MS_MAX = 60_000

/** Frames on their way on one delayed link; more are lost. */
export const LINK_FRAMES_IN_FLIGHT_MAX = 8_192
