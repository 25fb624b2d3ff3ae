package hosting

// ReloadKeys makes the host, if it is in this process, read its key list again. A process
// that stands by reads the list when it takes over.
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

// RevokeKeys makes the host, if it is in this process and has keys, disconnect every
// client that a key let in. The host's own connections continue.
func (p *Process) RevokeKeys() error {
	h := p.now()
	if h == nil || p.cfg.Node.KeyFile == "" {
		return nil
	}
	return h.broker.SetKeys(nil)
}
