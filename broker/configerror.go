package broker

// ConfigError is a Config that no broker can be started with: an address, a number or
// a name that it may not have. Nothing was touched.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap gives what is wrong.
func (e *ConfigError) Unwrap() error { return e.Err }

// asConfig marks an error as the configuration's.
func asConfig(err error) error {
	if err == nil {
		return nil
	}
	return &ConfigError{err}
}
