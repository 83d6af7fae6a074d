package library

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/metrics"
	"time"

	imagetypes "go.podman.io/image/v5/types"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// refuse ends a copy with an error of the kind [cove.Invalid] or another one.
type refuse func(cove.Kind, error)

// bounded is [soon] for what reads from a registry or an archive. The libraries read
// some answers to their end, however far that is (a refusal, a list of tags, a blob),
// and let a layer's compression say how much memory it takes. So f ends, with an error
// that names op and object, when it calls refuse, or when the process's heap has
// grown by heap bytes since the beginning; 0 is no bound.
func bounded[T any](ctx context.Context, heap uint64, op, object string, f func(context.Context, refuse) (T, error)) (T, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	refused := func(kind cove.Kind, err error) { cancel(cove.E("", "", kind, err)) }
	if heap > 0 {
		go watchHeap(ctx, heap, refused)
	}
	v, err := soon(ctx, op, object, func() (T, error) { return f(ctx, refused) })
	if cause, ours := errors.AsType[*cove.Error](context.Cause(ctx)); ours && err != nil {
		err = fail(op, object, cause) // and not that the copy was cancelled
	}
	return v, err
}

// watchHeap calls refuse when the heap has grown by most bytes that are in use.
func watchHeap(ctx context.Context, most uint64, refuse refuse) {
	limit := heap() + most
	// At the speed of memory it is half a gigabyte from one look to the next.
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		if heap() <= limit {
			continue
		}
		if runtime.GC(); heap() > limit {
			refuse(cove.Invalid, fmt.Errorf("what is sent takes more than %d MiB of memory, which no image needs", most>>20))
			return
		}
	}
}

// heap is how many bytes the process's objects take, dead ones with them until they
// are found.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// blobs refuses a blob for which there is no room in the directory that it is kept in
// first, and one of which nobody knows the size when it has taken half of the room: a
// registry that sends without end is to leave some to others. The libraries compare
// with no size that a manifest says.
func (r refuse) blobs(dir string) func(imagetypes.ProgressProperties) {
	return func(p imagetypes.ProgressProperties) {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) != nil {
			return
		}
		blob, room := p.Artifact, int64(fs.Bavail)*fs.Bsize
		switch {
		case p.Event == imagetypes.ProgressEventNewArtifact && blob.Size > room:
			r(cove.Unavailable, fmt.Errorf("blob %s is to have %d bytes, and there is room for %d in %s: %w", blob.Digest, blob.Size, room, dir, unix.ENOSPC))
		case p.Event == imagetypes.ProgressEventRead && blob.Size < 0 && int64(p.Offset) > room:
			r(cove.Unavailable, fmt.Errorf("blob %s does not say its size, has had %d bytes, and there is room for %d more in %s: %w", blob.Digest, p.Offset, room, dir, unix.ENOSPC))
		}
	}
}
