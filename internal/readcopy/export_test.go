package readcopy

// Abandon leaves a copy as a process does that is killed.
func (c *Copy) Abandon() { _ = c.lock.Close() }
