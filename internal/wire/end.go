package wire

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/event"
)

// End reads the Log's last message: its Sequence, which is 0 if the Log is empty, and its
// headers. prefix is that of the engine's API.
func End(ctx context.Context, nc *nats.Conn, prefix string) (event.Sequence, nats.Header, error) {
	m, err := nc.RequestWithContext(ctx, GetSubject(prefix), []byte(`{"last_by_subj":">"}`))
	if err != nil {
		return 0, nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Seq    event.Sequence `json:"seq"`
			Header []byte         `json:"hdrs"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return 0, nil, fmt.Errorf("the server's answer about the Log's last message: %w", err)
	}
	if answer.Error != nil {
		if answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return 0, nil, nil
		}
		return 0, nil, answer.Error
	}
	if len(answer.Message.Header) == 0 {
		return answer.Message.Seq, nil, nil
	}
	h, err := nats.DecodeHeadersMsg(answer.Message.Header)
	if err != nil {
		return 0, nil, fmt.Errorf("the headers of the Log's last message: %w", err)
	}
	return answer.Message.Seq, h, nil
}
