package fence

// AtEachStep makes f hear of each step before it is taken; its error ends the call there.
func (s Store) AtEachStep(f func(step string) error) Store { s.step = f; return s }
