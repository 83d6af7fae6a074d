package library

import (
	"context"
	"time"
)

// patience is how long somebody who has ended a copy waits for it to be undone.
const patience = 500 * time.Millisecond

// soon is f, or fails when ctx has ended and f does not soon after. Much of the
// libraries' work heeds no context: unpacking, opening what another has put into
// a directory, waiting for another tool's lock. That is left behind then. A
// command ends with it, which is as safe as being killed; in a process that goes
// on it undoes itself when it comes to the end.
func soon[T any](ctx context.Context, op, object string, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		return r.value, r.err
	case <-time.After(patience):
		var none T
		return none, fail(op, object, context.Cause(ctx))
	}
}
