package durablestream_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"durablestream/client"
	"durablestream/event"
)

// An agent asks, and waits for the answer, which may come from any process.
func ExampleDurableStream_Checkpoints() {
	ctx := context.Background()
	d, end := openTemp(ctx)
	defer end()

	cp, err := d.Checkpoints().Request(ctx, client.CheckpointRequest{
		ID: "cp_deploy", StreamID: "ses_1", RequestedBy: "agent/releaser",
		DecisionPoint: "Deploy version 1.2?",
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() { // a human, in another process: 'dstream checkpoint reject cp_deploy'
		if _, err := d.Checkpoints().Reject(ctx, cp.ID, client.Rejection{By: "ann", Reason: "not on a Friday"}); err != nil {
			log.Fatal(err)
		}
	}()
	cp, err = d.Checkpoints().Wait(ctx, cp.ID) // through restarts of either side
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(cp.DecisionPoint, cp.Status)
	// Output:
	// Deploy version 1.2? rejected
}

// A checkpoint gets one decision, ever. A second one is an error that carries the first.
func ExampleDurableStream_Checkpoints_approve() {
	ctx := context.Background()
	d, end := openTemp(ctx)
	defer end()

	if _, err := d.Checkpoints().Request(ctx, client.CheckpointRequest{
		ID: "cp_deploy", StreamID: "ses_1", RequestedBy: "agent/releaser",
		DecisionPoint: "Deploy where?",
		Options:       []event.Option{{ID: "staging", Label: "Staging"}, {ID: "live", Label: "Live"}},
	}); err != nil {
		log.Fatal(err)
	}
	cp, err := d.Checkpoints().Approve(ctx, "cp_deploy", client.Approval{By: "ann", Option: "staging"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(cp.Status, "by", cp.Decision.By)

	_, err = d.Checkpoints().Reject(ctx, "cp_deploy", client.Rejection{By: "bob"})
	var decided *client.DecidedError
	if errors.As(err, &decided) {
		fmt.Println("too late:", errors.Is(err, client.ErrDecided))
	}
	// Output:
	// approved by ann
	// too late: true
}

// An intent is work that one process at a time holds, for as long as it renews its lease.
func ExampleDurableStream_Intents() {
	ctx := context.Background()
	d, end := openTemp(ctx)
	defer end()

	if _, err := d.Intents().Create(ctx, client.IntentSpec{
		ID: "intent_tests", StreamID: "ses_1", Actor: "agent/planner", Description: "Write the tests",
	}); err != nil {
		log.Fatal(err)
	}
	lease, err := d.Intents().Claim(ctx, "intent_tests", "worker/1", time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := d.Intents().Claim(ctx, "intent_tests", "worker/2", time.Hour); errors.Is(err, client.ErrHeld) {
		fmt.Println("worker/2 has to wait")
	}
	lease, err = d.Intents().Renew(ctx, lease) // again and again while the work lasts
	if err != nil {
		log.Fatal(err)
	}
	i, err := d.Intents().Complete(ctx, "intent_tests", client.End{By: lease.Holder, Token: lease.Token, Result: "12 tests"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(i.Status, "by", i.EndedBy)
	// Output:
	// worker/2 has to wait
	// completed by worker/1
}

// A process that starts again asks what is unfinished.
func ExampleDurableStream_Resume() {
	ctx := context.Background()
	d, end := openTemp(ctx)
	defer end()

	for _, id := range []string{"intent_code", "intent_tests"} {
		if _, err := d.Intents().Create(ctx, client.IntentSpec{ID: id, StreamID: "ses_1", Actor: "agent/planner"}); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := d.Intents().Complete(ctx, "intent_code", client.End{By: "agent/coder"}); err != nil {
		log.Fatal(err)
	}
	if _, err := d.Checkpoints().Request(ctx, client.CheckpointRequest{
		ID: "cp_deploy", StreamID: "ses_1", RequestedBy: "agent/releaser", DecisionPoint: "Deploy?",
	}); err != nil {
		log.Fatal(err)
	}

	unfinished, err := d.Resume(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, cp := range unfinished.PendingCheckpoints {
		fmt.Println("waits for a human:", cp.ID)
	}
	for _, i := range unfinished.ActiveIntents {
		fmt.Println("not finished:", i.ID)
	}
	// Output:
	// waits for a human: cp_deploy
	// not finished: intent_tests
}
