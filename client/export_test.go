package client

import "time"

// HeaderRoom is what a message leaves free of the server's limit.
const HeaderRoom = headerRoom

// TrustTheEngine switches the late path off: an append relies on the engine's
// memory of ids however long it takes.
func (c *Client) TrustTheEngine() { c.window = 1000 * time.Hour }
