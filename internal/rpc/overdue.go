package rpc

import "context"

// get answers a request for one checkpoint or intent. late sets whether it is overdue now.
func get[T any](k *call, read func(context.Context, string) (T, error), late func(*T)) (any, error) {
	var p struct {
		ID string `json:"id"`
	}
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	one, err := read(k.ctx, p.ID)
	if err != nil {
		return nil, err
	}
	late(&one)
	return one, nil
}

type listParams struct {
	All bool `json:"all"`
}

// list answers a request for all checkpoints or intents, or for the open ones. name is the
// list's member in the answer.
func list[T any](k *call, name string, read func(ctx context.Context, open bool) ([]T, error), late func(*T)) (any, error) {
	var p listParams
	if err := decode(k.params, &p); err != nil {
		return nil, err
	}
	all, err := read(k.ctx, !p.All)
	if err != nil {
		return nil, err
	}
	for i := range all {
		late(&all[i])
	}
	if all == nil {
		all = []T{} // a list in JSON, not null
	}
	return map[string]any{name: all}, nil
}
