// Package durablestream is a durable, ordered log of what AI agents do, which
// outlives the agents. Open hosts the project's log in this process, or joins the
// process that hosts it; what it returns appends, queries and subscribes.
package durablestream
