// Package durablestream is a durable, ordered log of what AI agents do. The log outlives
// the agents: events, questions to humans and unfinished work survive a crash of any
// process. This package needs no server beside it. [Open] hosts the log in this process,
// or joins the process that hosts it; [Get] shares one open log in the whole process.
//
// # Log and events
//
// An [event.Event] has a type ("task.created"), a stream (a session or task), an actor and a
// JSON payload. [DurableStream.Append] returns when the event is synced to disk, with its
// Sequence: its position in the one total order of the log. An append that is repeated
// with the same ID within the duplicate window stores nothing new.
// [DurableStream.AppendBatch] stores up to 999 events, all or none.
//
// [DurableStream.Query] reads what the log holds, [DurableStream.Subscribe] continues with
// what is appended, and [DurableStream.On] calls a function. An [event.Filter] selects by
// stream, type, actor, correlation, time and position. Events name the event that caused
// them, and Lineage of package projection builds the trees: see the example Lineage.
//
// # Guards
//
// A guard is a named compare-and-set: [DurableStream.AppendGuarded] stores events only if
// the guard is still at the expected Sequence. The guard's new Sequence is a fencing token.
// Of two processes that race, one wins, and the other gets a [client.ConflictError].
//
// # Checkpoints
//
// A checkpoint is a question that waits for a human: [client.Checkpoints.Request],
// [client.Checkpoints.Wait], [client.Checkpoints.Approve], [client.Checkpoints.Reject]. It
// gets one decision, ever, and the agent that asked cannot approve its own question. See
// the examples of [DurableStream.Checkpoints].
//
// # Intents
//
// An intent is long-running work that one process at a time holds by a lease:
// [client.Intents.Create], [client.Intents.Claim], [client.Intents.Renew],
// [client.Intents.Complete]. After a restart [DurableStream.Resume] reports the questions
// that wait, the work that has not ended, and the sessions that are open.
//
// # Hosting
//
// One process hosts the log of a directory: it runs an embedded NATS server, the mirror,
// and the sweeper, which enforces deadlines. The others join it over the loopback. When
// the host goes, a process that joined takes over, and calls under way continue.
// Config.JoinOnly keeps a process from hosting.
//
// # Cluster
//
// Three nodes ('dstream serve' with a cluster's flags, or [Serve]) hold a log that
// survives the loss of one. A program joins with Config.Servers, the file of its key
// (Config.NKey) and the servers' authority (Config.TLS): see the example Cluster of [Open].
//
// # Mirror
//
// The host writes each event to a JSONL file (see [MirrorPath]), whose lines are a hash
// chain. [mirror.Verify] compares file and log, and [mirror.Restore] rebuilds a log from
// the file. docs/guarantees.md lists what is promised, and which test holds each promise.
package durablestream
