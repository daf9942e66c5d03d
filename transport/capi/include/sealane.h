/* Sealane: encrypted messages over UDP, for C. Written by transport/capi/header.sh from the Rust source: do not edit.
 *
 * RESULTS. A function that can fail returns a status: SEALANE_OK, SEALANE_NOTHING where it says so, or a negative number. Its last
 * argument takes a sealane_error to be filled in, or null. No function aborts, throws or unwinds into its caller; a defect of the library
 * is SEALANE_PANIC. Where a function makes something it writes a pointer through an argument: null unless it succeeded.
 *
 * POINTERS. What the library gives out is freed by the function that its comment names, once; those functions take null. Null where
 * something is needed gives SEALANE_INVALID, but a pointer that was freed or was never given out cannot be told from a good one. Data to be
 * sent may be null if its length is 0; it is free again when the function returns. Texts are UTF-8 and end with a zero.
 *
 * THREADS. A sealane_socket and a sealane_peer may be used by any number of threads at once, without locks. A sealane_config and a
 * sealane_delivery belong to one thread at a time; a delivery may be handed to another, and answered there. Nothing may be freed while
 * another thread uses it: to stop threads that wait in a socket, call sealane_socket_close, join them, then sealane_socket_free.
 *
 * PROCESSES. A child made by fork cannot use a socket of its parent (SEALANE_FORKED); it makes its own.
 *
 * SIGNALS. No function may be called from a signal handler.
 */

#ifndef SEALANE_H
#define SEALANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * It worked.
 */
#define SEALANE_OK 0

/**
 * Nothing came, within the time that was given or at once. No error.
 */
#define SEALANE_NOTHING 1

/**
 * An argument cannot be used: a null pointer, text that is not UTF-8, a number that means nothing.
 */
#define SEALANE_INVALID -1

/**
 * A defect of the library: it panicked. Free the socket; what it does now is not to be trusted.
 */
#define SEALANE_PANIC -2

/**
 * The configuration cannot work.
 */
#define SEALANE_CONFIG -3

/**
 * A certificate or a key cannot be used.
 */
#define SEALANE_CREDENTIALS -4

/**
 * The address cannot be bound.
 */
#define SEALANE_BIND -5

/**
 * A name does not resolve, or no way leads there.
 */
#define SEALANE_ADDRESS -6

/**
 * The handshake failed: certificates, names, protocols. Nothing of the application was sent.
 */
#define SEALANE_HANDSHAKE -7

/**
 * The message is longer than is allowed here or at the peer.
 */
#define SEALANE_TOO_LONG -8

/**
 * As many bytes as configured are held for sending, and the function does not block.
 */
#define SEALANE_WOULD_BLOCK -9

/**
 * The request was answered already, or its caller gave up.
 */
#define SEALANE_UNKNOWN_REQUEST -10

/**
 * No such call is open: it ended, was aborted, or never existed.
 */
#define SEALANE_UNKNOWN_CALL -11

/**
 * The peer no longer answers.
 */
#define SEALANE_SILENT -12

/**
 * The deadline passed.
 */
#define SEALANE_DEADLINE -13

/**
 * The peer takes no requests.
 */
#define SEALANE_NOT_SERVING -14

/**
 * The peer's application refused the request.
 */
#define SEALANE_REFUSED -15

/**
 * The session ended while the call was under way.
 */
#define SEALANE_SESSION_ENDED -16

/**
 * The peer restarted: the outcome of the call is unknown.
 */
#define SEALANE_RESTARTED -17

/**
 * The path carries less than was thought: try again.
 */
#define SEALANE_PATH_SHRANK -18

/**
 * The session's keys have protected as much as they may. The next call makes a new session.
 */
#define SEALANE_KEYS_EXHAUSTED -19

/**
 * Too many sessions are open.
 */
#define SEALANE_TOO_MANY_SESSIONS -20

/**
 * The socket was closed, or freed before the delivery was.
 */
#define SEALANE_CLOSED -21

/**
 * The socket belongs to the process that this one was forked from.
 */
#define SEALANE_FORKED -22

/**
 * The system refused something that should always work.
 */
#define SEALANE_SYSTEM -23

/**
 * An error that this version of the ABI has no number for; its text says what it is.
 */
#define SEALANE_OTHER -24

/**
 * Bytes of an error's text, the closing zero included. Longer texts are cut.
 */
#define SEALANE_ERROR_TEXT_BYTES 248

/**
 * Serves only clients with a certificate of a trusted authority.
 */
#define SEALANE_CLIENTS_AUTHENTICATED 1

/**
 * Serves anybody. Clients are told who the server is; it does not learn who they are.
 */
#define SEALANE_CLIENTS_ANONYMOUS 2

/**
 * A waiting thread polls for 20 us, then sleeps. The default.
 */
#define SEALANE_WAIT_ADAPTIVE 0

/**
 * A waiting thread sleeps at once: no cost while nothing happens.
 */
#define SEALANE_WAIT_BLOCK 1

/**
 * A waiting thread polls without pause: the shortest latency, for a core per thread.
 */
#define SEALANE_WAIT_SPIN 2

/**
 * The end of an installed session that opens it when it first sends.
 */
#define SEALANE_ROLE_CLIENT 1

/**
 * The end of an installed session that answers.
 */
#define SEALANE_ROLE_SERVER 2

/**
 * A request, to be answered by `sealane_reply` or `sealane_refuse`.
 */
#define SEALANE_REQUEST 1

/**
 * The response to a request: of `sealane_send`, with its cookie, or of `sealane_call`.
 */
#define SEALANE_RESPONSE 2

/**
 * A message that wants no response.
 */
#define SEALANE_ONE_WAY 3

/**
 * Something that was sent by `sealane_send` or `sealane_send_one_way` failed.
 */
#define SEALANE_FAILED 4

/**
 * Protected with the session's keys: forward secret, from a peer that has proven who it is, and never a copy.
 */
#define SEALANE_PROTECTION_FULL 0

/**
 * Protected with less than the session's keys, in a first flight.
 */
#define SEALANE_PROTECTION_FIRST_FLIGHT 1

/**
 * The version of this ABI. It grows when functions, numbers or fields are added; a library whose number is at least that of the header
 * serves a program. What breaks programs changes the library's name (`libsealane.so.0`) instead.
 */
#define SEALANE_ABI 3

/**
 * Messages that wait for each other. It belongs to one thread at a time.
 */
typedef struct sealane_batch sealane_batch;

/**
 * What a socket is made with. Belongs to one thread at a time. It is copied by `sealane_socket_new`, so it can be used again, and
 * freed at once.
 */
typedef struct sealane_config sealane_config;

/**
 * A peer to send to. Any number of threads may use it at once. It belongs to the socket that made it, and is refused by others.
 */
typedef struct sealane_peer sealane_peer;

/**
 * A one-to-many socket. Any number of threads may use it at once.
 */
typedef struct sealane_socket sealane_socket;

/**
 * What one call says of its failure. The caller owns it, usually on its stack; every function that is given one fills it in, so
 * nothing has to be set before. After a success `status` is `SEALANE_OK` or `SEALANE_NOTHING`, and `text` is empty.
 */
typedef struct sealane_error {
  /**
   * The same number that the function returned.
   */
  int32_t status;
  /**
   * Whether the peer may have executed the request that the error is about. `false` is certain; `true` is not.
   */
  bool may_have_run;
  /**
   * What went wrong, in English, in UTF-8, ended by a zero.
   */
  char text[SEALANE_ERROR_TEXT_BYTES];
} sealane_error;

/**
 * The name of a call, request or message, unique as long as its socket lives. To be compared and kept; its numbers mean nothing else.
 */
typedef struct sealane_call_id {
  /**
   * Of the session: the same in all that comes in it, so that a server can keep what a client chose.
   */
  uint64_t session;
  /**
   * In the session.
   */
  uint64_t rpc;
} sealane_call_id;

/**
 * What came. To be read only, and to be freed by `sealane_delivery_free`. It belongs to one thread at a time. Later versions may add
 * fields at its end.
 */
typedef struct sealane_delivery {
  /**
   * `SEALANE_REQUEST`, `SEALANE_RESPONSE`, `SEALANE_ONE_WAY` or `SEALANE_FAILED`; be ready for others.
   */
  int32_t kind;
  /**
   * Why it failed, of `SEALANE_FAILED`; otherwise `SEALANE_OK`.
   */
  int32_t status;
  /**
   * How it was protected on its way.
   */
  int32_t protection;
  /**
   * Of `SEALANE_FAILED`: whether the peer may have executed the request.
   */
  bool may_have_run;
  /**
   * The number that was given to `sealane_send`; otherwise 0.
   */
  uint64_t cookie;
  /**
   * Its name; of a response, the name of the request.
   */
  struct sealane_call_id id;
  /**
   * The message, where it was decrypted: no copy is made. Never null, except of `SEALANE_FAILED`.
   */
  const uint8_t *payload;
  /**
   * Bytes of the message.
   */
  size_t length;
  /**
   * What went wrong, of `SEALANE_FAILED`, ended by a zero; otherwise null.
   */
  const char *text;
} sealane_delivery;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The text of a status, for people. Never null; the text is constant and not to be freed.
 */
const char *sealane_strerror(int32_t status);

/**
 * An empty configuration: it says neither whom to trust nor who we are, and serves nobody. Never null.
 */
struct sealane_config *sealane_config_new(void);

/**
 * Frees a configuration. Null is allowed.
 */
void sealane_config_free(struct sealane_config *config);

/**
 * Trusts the certificate authorities in a PEM file, and nobody else.
 */
int32_t sealane_config_trust_file(struct sealane_config *config, const char *path, struct sealane_error *error);

/**
 * Trusts the certificate authorities in `length` bytes of PEM text, and nobody else.
 */
int32_t sealane_config_trust_pem(struct sealane_config *config,
                                 const uint8_t *pem,
                                 size_t length,
                                 struct sealane_error *error);

/**
 * Trusts nobody: such a socket can begin no session. For servers of anonymous clients.
 */
int32_t sealane_config_trust_nobody(struct sealane_config *config, struct sealane_error *error);

/**
 * Who the socket is: files with a certificate chain and its private key, both PEM. Without an identity a client is anonymous.
 */
int32_t sealane_config_identity_files(struct sealane_config *config,
                                      const char *chain_path,
                                      const char *key_path,
                                      struct sealane_error *error);

/**
 * The same as PEM text. The caller wipes its own copy of the key.
 */
int32_t sealane_config_identity_pem(struct sealane_config *config,
                                    const uint8_t *chain,
                                    size_t chain_length,
                                    const uint8_t *key,
                                    size_t key_length,
                                    struct sealane_error *error);

/**
 * Takes requests and one-way messages: `SEALANE_CLIENTS_AUTHENTICATED` or `SEALANE_CLIENTS_ANONYMOUS`. Without this they are refused.
 */
int32_t sealane_config_serve(struct sealane_config *config,
                             int32_t clients,
                             struct sealane_error *error);

/**
 * Only sessions whose secrets are installed by `sealane_install_session`, without certificates. `serve` says whether their peers may
 * send requests.
 */
int32_t sealane_config_installed_only(struct sealane_config *config,
                                      bool serve,
                                      struct sealane_error *error);

/**
 * How blocking functions wait: one of `SEALANE_WAIT_...`.
 */
int32_t sealane_config_wait(struct sealane_config *config, int32_t wait, struct sealane_error *error);

/**
 * The longest message, sent or received, in bytes. Default and most: 64 MiB.
 */
int32_t sealane_config_message_bytes_max(struct sealane_config *config, size_t bytes, struct sealane_error *error);

/**
 * Bytes of messages that are held until their receivers acknowledged them; beyond it sending waits, or says `SEALANE_WOULD_BLOCK`.
 * Default 256 MiB.
 */
int32_t sealane_config_send_bytes_max(struct sealane_config *config,
                                      uint64_t bytes,
                                      struct sealane_error *error);

/**
 * The same for each peer: a server that answers many keeps one that takes nothing from using up all there is. One message is always
 * taken. Default: no limit of its own.
 */
int32_t sealane_config_peer_send_bytes_max(struct sealane_config *config,
                                           uint64_t bytes,
                                           struct sealane_error *error);

/**
 * The path MTU in bytes, the IP header included, from 1,280 to 65,535. Default: the route's own.
 */
int32_t sealane_config_mtu(struct sealane_config *config, uint32_t bytes, struct sealane_error *error);

/**
 * Whether longer messages that we send travel in records that span packets, where these are small, as on a path of 1,500 bytes: that
 * costs each packet less at both ends. Default false, because it is for paths that keep the order of packets: what overtakes the first
 * record of its message is lost, and only asked for again after some milliseconds.
 */
int32_t sealane_config_spanning_records(struct sealane_config *config,
                                        bool on,
                                        struct sealane_error *error);

/**
 * After how many milliseconds of silence a peer is given up, and how many a handshake may take. 0 leaves the default.
 */
int32_t sealane_config_timeouts(struct sealane_config *config,
                                uint64_t peer_ms,
                                uint64_t handshake_ms,
                                struct sealane_error *error);

/**
 * Binds a socket to `address`, as `127.0.0.1:7000`, `[::]:0` or a name with a port; port 0 lets the system choose. A client binds to
 * `0.0.0.0:0` or `[::]:0`. `*made` is to be freed by `sealane_socket_free`.
 */
int32_t sealane_socket_new(const struct sealane_config *config,
                           const char *address,
                           struct sealane_socket **made,
                           struct sealane_error *error);

/**
 * Waits up to a second for what is under way, tells all peers, and ends every call of the socket: threads that wait in it get
 * `SEALANE_CLOSED`. The handle stays, to be freed when no thread uses it any more.
 */
int32_t sealane_socket_close(const struct sealane_socket *socket,
                             struct sealane_error *error);

/**
 * Frees a socket, and closes it at once if it is open. No thread may be using it. Deliveries and peers of it may live longer: they
 * keep their payloads, and are good for nothing else. Null is allowed.
 */
void sealane_socket_free(struct sealane_socket *socket);

/**
 * Where the socket is bound, with the port that the system chose. `*address` is to be freed by `sealane_string_free`.
 */
int32_t sealane_socket_address(const struct sealane_socket *socket, char **address, struct sealane_error *error);

/**
 * A descriptor for `poll`, `epoll` or an event loop: readable when `sealane_try_recv` should be called until it says
 * `SEALANE_NOTHING`. It covers the network, timers and what other threads filed; and room to send, once something got
 * `SEALANE_WOULD_BLOCK`: that is to be tried again whenever `sealane_try_recv` has said `SEALANE_NOTHING`. It belongs to the socket, is
 * the same at every call, and ends when the socket is freed: do not read from it, and do not close it.
 */
int32_t sealane_socket_fd(const struct sealane_socket *socket,
                          int *fd,
                          struct sealane_error *error);

/**
 * Lets messages wait for company, from whichever thread they come: what is sent and answered until `sealane_batch_end` leaves together, or
 * before, when there is enough of it or it has waited for some microseconds. For who has several messages to send at once, as a loop that
 * takes all that came and answers it. Batches may be open beside each other. `*batch` is to be given to `sealane_batch_end`.
 */
int32_t sealane_batch_begin(const struct sealane_socket *socket,
                            struct sealane_batch **batch,
                            struct sealane_error *error);

/**
 * Ends a batch, and frees it: what waited leaves now. A socket that was freed before goes with its last batch. Null is allowed.
 */
void sealane_batch_end(struct sealane_batch *batch);

/**
 * A peer at `address` whose certificate must say `name`: a DNS name or an IP address. Nothing is sent yet: the first message makes the
 * session. `*peer` is to be freed by `sealane_peer_free`.
 */
int32_t sealane_peer_new(const struct sealane_socket *socket,
                         const char *address,
                         const char *name,
                         struct sealane_peer **peer,
                         struct sealane_error *error);

/**
 * Frees a peer. The session stays: another handle of the same peer uses it. Null is allowed.
 */
void sealane_peer_free(struct sealane_peer *peer);

/**
 * Completes the handshake with `peer` now, instead of with the first message. Blocks.
 */
int32_t sealane_connect(const struct sealane_socket *socket,
                        const struct sealane_peer *peer,
                        struct sealane_error *error);

/**
 * Installs a secret of 32 bytes that both ends agreed on elsewhere. `label` is what the peer is called in identities. With
 * `SEALANE_ROLE_CLIENT`, `*peer` is a peer to send to, to be freed by `sealane_peer_free`; with `SEALANE_ROLE_SERVER` `peer` may be
 * null, and whoever proves to have the secret is answered. The caller wipes its own copy.
 */
int32_t sealane_install_session(const struct sealane_socket *socket,
                                const char *address,
                                int32_t role,
                                const uint8_t *secret,
                                size_t secret_length,
                                const char *label,
                                struct sealane_peer **peer,
                                struct sealane_error *error);

/**
 * Frees a delivery and its payload. A request that was not answered is refused by it: nobody could answer it any more. Null is allowed.
 */
void sealane_delivery_free(struct sealane_delivery *delivery);

/**
 * Frees the payload alone: the delivery keeps the right to be answered, at the cost of some hundred bytes. `payload` is null and
 * `length` 0 afterwards.
 */
int32_t sealane_delivery_free_payload(struct sealane_delivery *delivery,
                                      struct sealane_error *error);

/**
 * Who sent it, for people and logs: the names of its certificate, `anonymous`, or the label of an installed secret. `*identity` is to
 * be freed by `sealane_string_free`.
 */
int32_t sealane_delivery_identity(const struct sealane_delivery *delivery,
                                  char **identity,
                                  struct sealane_error *error);

/**
 * Where its sender is, as `127.0.0.1:7000`. `*address` is to be freed by `sealane_string_free`.
 */
int32_t sealane_delivery_address(const struct sealane_delivery *delivery, char **address, struct sealane_error *error);

/**
 * Its sender, to send to in the same session, whoever began that. `*peer` is to be freed by `sealane_peer_free`.
 */
int32_t sealane_delivery_peer(const struct sealane_delivery *delivery,
                              struct sealane_peer **peer,
                              struct sealane_error *error);

/**
 * Sends a request and waits for its response, at most for `deadline_ms` milliseconds; 0 means no deadline (a peer that no longer
 * answers is found out all the same). The deadline counts from when the request is taken for sending. `*reply` is a
 * `SEALANE_RESPONSE`, to be freed by `sealane_delivery_free`.
 */
int32_t sealane_call(const struct sealane_socket *socket,
                     const struct sealane_peer *peer,
                     const uint8_t *data,
                     size_t length,
                     uint64_t deadline_ms,
                     struct sealane_delivery **reply,
                     struct sealane_error *error);

/**
 * Sends a request. Its response, or word that it failed, is delivered with `cookie`. `id` may be null; otherwise the call's name is
 * written there, for `sealane_abort`. Blocks while too many bytes are held for sending.
 */
int32_t sealane_send(const struct sealane_socket *socket,
                     const struct sealane_peer *peer,
                     const uint8_t *data,
                     size_t length,
                     uint64_t cookie,
                     struct sealane_call_id *id,
                     struct sealane_error *error);

/**
 * `sealane_send` that never blocks: `SEALANE_WOULD_BLOCK` says that too many bytes are held for sending.
 */
int32_t sealane_try_send(const struct sealane_socket *socket,
                         const struct sealane_peer *peer,
                         const uint8_t *data,
                         size_t length,
                         uint64_t cookie,
                         struct sealane_call_id *id,
                         struct sealane_error *error);

/**
 * Sends a message that wants no response. It is repeated until its receiver has it; should that fail, a `SEALANE_FAILED` is delivered.
 * `id` may be null. Blocks while too many bytes are held for sending.
 */
int32_t sealane_send_one_way(const struct sealane_socket *socket,
                             const struct sealane_peer *peer,
                             const uint8_t *data,
                             size_t length,
                             struct sealane_call_id *id,
                             struct sealane_error *error);

/**
 * `sealane_send_one_way` that never blocks: `SEALANE_WOULD_BLOCK` says that too many bytes are held for sending.
 */
int32_t sealane_try_send_one_way(const struct sealane_socket *socket,
                                 const struct sealane_peer *peer,
                                 const uint8_t *data,
                                 size_t length,
                                 struct sealane_call_id *id,
                                 struct sealane_error *error);

/**
 * Sends a message that wants no response, and waits until its receiver has all of it.
 */
int32_t sealane_tell(const struct sealane_socket *socket,
                     const struct sealane_peer *peer,
                     const uint8_t *data,
                     size_t length,
                     struct sealane_error *error);

/**
 * Ends a call that its caller no longer wants: the peer is told, and nothing more comes of it. `SEALANE_UNKNOWN_CALL` says that it
 * had ended before.
 */
int32_t sealane_abort(const struct sealane_socket *socket,
                      struct sealane_call_id id,
                      struct sealane_error *error);

/**
 * Waits for what comes next from anyone, at most for `timeout_ms` milliseconds; a negative number means without end. `SEALANE_NOTHING`
 * says that nothing came, and `*came` is null then. Otherwise it is to be freed by `sealane_delivery_free`.
 */
int32_t sealane_recv(const struct sealane_socket *socket,
                     int64_t timeout_ms,
                     struct sealane_delivery **came,
                     struct sealane_error *error);

/**
 * `sealane_recv` that does not wait. Polls the network once.
 */
int32_t sealane_try_recv(const struct sealane_socket *socket,
                         struct sealane_delivery **came,
                         struct sealane_error *error);

/**
 * `sealane_recv` of all that has come, in its order and at most `most` at once: one look for all, instead of one a message. `came` has
 * room for `most` pointers, at least 1; `*count` says how many were written, each to be freed by `sealane_delivery_free`, and those
 * behind them are null. It waits only while there is nothing. `SEALANE_NOTHING` says that nothing came, and `*count` is 0 then, as it is
 * where this fails.
 */
int32_t sealane_recv_many(const struct sealane_socket *socket,
                          int64_t timeout_ms,
                          struct sealane_delivery **came,
                          size_t most,
                          size_t *count,
                          struct sealane_error *error);

/**
 * `sealane_recv_many` that does not wait. Polls the network once, unless something has come already. Fewer than `most` may not be all:
 * a loop over `sealane_socket_fd` calls it until it says `SEALANE_NOTHING`.
 */
int32_t sealane_try_recv_many(const struct sealane_socket *socket,
                              struct sealane_delivery **came,
                              size_t most,
                              size_t *count,
                              struct sealane_error *error);

/**
 * Answers a request, once, whatever comes of it. Bytes of its own payload are sent from where they are; others are copied. The
 * delivery stays, to be freed. Blocks while too many bytes are held for sending.
 */
int32_t sealane_reply(struct sealane_delivery *request,
                      const uint8_t *data,
                      size_t length,
                      struct sealane_error *error);

/**
 * `sealane_reply` that never blocks: `SEALANE_WOULD_BLOCK` says that too many bytes are held for sending. The right to answer stays in
 * the delivery then, for another try: see `sealane_socket_fd`.
 */
int32_t sealane_try_reply(struct sealane_delivery *request,
                          const uint8_t *data,
                          size_t length,
                          struct sealane_error *error);

/**
 * Refuses a request: its caller gets `SEALANE_REFUSED`. The delivery stays, to be freed.
 */
int32_t sealane_refuse(struct sealane_delivery *request, struct sealane_error *error);

/**
 * The `SEALANE_ABI` of the library that is there.
 */
uint32_t sealane_abi_version(void);

/**
 * The version of Sealane, as `0.1.0`. Constant, and not to be freed.
 */
const char *sealane_version(void);

/**
 * What the socket does now and what it has counted, as a JSON object: `address`, `engine`, `held_bytes`, `calls`, `sessions` (each with
 * `address`, `identity`, `cipher`, `open`, `resumed`) and `counters`. `*json` is to be freed by `sealane_string_free`.
 */
int32_t sealane_info_json(const struct sealane_socket *socket,
                          char **json,
                          struct sealane_error *error);

/**
 * Frees a text that this library gave out. Null is allowed.
 */
void sealane_string_free(char *text);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SEALANE_H */
