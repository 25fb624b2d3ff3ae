package durablestream

// RevokeKeys lets the host, if it is in this process and has keys, cut off everybody
// whom a key let in; the host's own connections go on. It is for a key list from which
// the last key was taken, which ReloadKeys refuses; ReloadKeys lets keys in again.
func (d *DurableStream) RevokeKeys() error {
	h := d.hosting.now()
	if h == nil || d.cfg.Serve.KeyFile == "" {
		return nil
	}
	return h.broker.SetKeys(nil)
}
