package hosting

// ReloadKeys lets the host, if it is in this process, read its key list again. A
// process that stands by reads it when it takes over.
func (p *Process) ReloadKeys() error {
	h := p.now()
	if h == nil || p.cfg.Node.KeyFile == "" {
		return nil
	}
	cfg, err := p.cfg.broker()
	if err == nil {
		err = h.broker.SetKeys(cfg.Keys)
	}
	return err
}

// RevokeKeys lets the host, if it is in this process and has keys, cut off everybody
// whom a key let in; the host's own connections go on.
func (p *Process) RevokeKeys() error {
	h := p.now()
	if h == nil || p.cfg.Node.KeyFile == "" {
		return nil
	}
	return h.broker.SetKeys(nil)
}
