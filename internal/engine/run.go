package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/state"
)

// Run creates a container and starts it, in one durable step. Attached, it
// returns when the container has ended or the caller has detached.
func (e *Engine) Run(ctx context.Context, spec cove.ContainerSpec, o RunOptions) (RunResult, error) {
	d, err := e.draft(ctx, spec, o.CreateOptions)
	if err != nil {
		return RunResult{}, err
	}
	defer d.release()
	if !o.Detach {
		if _, err := e.detachKeys(o.Attach); err != nil {
			return RunResult{StartFailed: true}, err
		}
	}
	result := RunResult{ID: d.c.ID, Detached: true}
	if err := e.prepareHome(); err != nil {
		return result, err
	}
	var untold error // who asked for the ID could not be told it
	l := d.launch(ctx, func() error {
		untold = writeCIDFile(d.c)
		return untold
	})
	if !o.Detach {
		l.attach = &o.Attach
	}
	l.keep, l.listen = o.Keep, o.Listen
	if len(d.c.DependsOn) > 0 {
		if err := d.nameTaken(ctx); err != nil {
			return result, err
		}
		if err := e.startDependencies(ctx, d.c); err != nil {
			result.StartFailed = true
			return result, d.leaveCreated(ctx, err)
		}
	}
	ports, err := l.reserve()
	if err != nil {
		// Whether the name is to be had comes first; and who had it may have
		// had the port.
		if taken := d.nameTaken(ctx); taken != nil {
			return result, taken
		}
		ports, err = l.reserve()
	}
	if err != nil {
		result.StartFailed = true
		return result, d.leaveCreated(ctx, err)
	}
	d.c.Ports = ports
	defer l.unlock()
	conn, err := l.do(ctx)
	if err != nil {
		result.StartFailed = l.held() && untold == nil || d.noLease || l.badID || cove.Is(err, cove.WrongStatus)
		switch {
		case l.unfit:
			result.StartFailed = true
			err = d.leaveCreated(ctx, err)
		case !l.held(), l.overtaken:
		case spec.Remove || ctx.Err() != nil:
			err = errors.Join(err, e.removeAnonymous(d.c, e.lockUnder), e.drop(d.c))
			e.emit(d.c, "remove")
		default:
			err = e.runFailed(d.c, err)
		}
		return result, err
	}
	defer conn.Close()
	result.Warnings = append(d.warnings, l.warnings...)
	l.unlock()
	result.Warnings = append(result.Warnings, l.announce()...)
	if o.Detach {
		err := l.poststarted(conn)
		if err == nil {
			err = l.announceHealthy(ctx)
		}
		result.StartFailed = err != nil
		return result, err
	}
	defer l.announceMeanwhile(ctx)()
	now := Container{Container: *d.c, Status: cove.Running}
	now.Run.PID, now.Run.PIDStart = l.started.PID, l.started.PIDStart
	result, err = e.follow(ctx, &now, conn, o.Attach, result)
	if result.OutputLost && spec.Remove && !spec.Terminal {
		// It was run for its output. A terminal hangs up on one that goes on.
		return result, errors.Join(err, e.Remove(ctx, d.c.ID, RemoveOptions{Force: true, Volumes: true, Timeout: new(uint)}))
	}
	if err == nil && !result.Detached && spec.Remove && slices.ContainsFunc(d.c.Mounts, func(m cove.Mount) bool { return m.Anonymous }) {
		// The record would go with the next write; its volumes are not to
		// be seen until then.
		err = e.update(func(state.Tx) error { return nil })
	}
	return result, err
}

// launch is that of the container, which records it as soon as it may; recorded
// is called when that is done.
func (d *draft) launch(ctx context.Context, recorded func() error) *launch {
	l := &launch{e: d.e, c: d.c, lock: new(lock.Held)}
	l.record = func() error {
		err := d.record(ctx, cove.DesireRun)
		if err != nil {
			return err
		}
		if *l.lock, err = d.lock(ctx); err != nil {
			return d.unrecord(err)
		}
		d.release() // the record keeps the image from here on
		d.e.emitCreate(d.c)
		if err := recorded(); err != nil {
			return err
		}
		l.networks = d.joins
		// Another container may have had the labels of before.
		l.spec.Process.SelinuxLabel, l.spec.Linux.MountLabel = d.c.ProcessLabel, d.c.MountLabel
		return nil
	}
	return l
}

// leaveCreated makes the container that will not start because of cause one
// that was created, as a failure after the record does.
func (d *draft) leaveCreated(ctx context.Context, cause error) error {
	d.c.Ports = d.c.Spec.Ports
	if d.c.Spec.Remove {
		return cause
	}
	l, err := d.create(ctx)
	if err != nil {
		return errors.Join(cause, err)
	}
	return errors.Join(d.e.runFailed(d.c, cause), l.Unlock())
}

// runFailed leaves a container that could not be started as one that was
// created, with the reason.
func (e *Engine) runFailed(c *cove.Container, cause error) error {
	if err := e.makeDir(c); err != nil {
		return errors.Join(cause, err)
	}
	h := &held{e: e}
	h.Container.Container, h.Dir = *c, e.dir(c.ID)
	return h.notStarted(c.Run.Generation, cause)
}

// drop removes a container of which nothing runs: its record goes last.
func (e *Engine) drop(c *cove.Container) error {
	if err := rootfs.RemoveTree(e.dir(c.ID)); err != nil {
		return cove.E("remove container", c.Name, fileKind(err), err)
	}
	// Before the record, so that there is never a lock file that nobody
	// knows of. Whoever takes a new one finds the intent to remove.
	if err := e.locks.Forget(lock.Container, c.ID); err != nil {
		return err
	}
	if err := e.update(func(tx state.Tx) error {
		// As it is now: its name may be another one's by this time.
		now := new(cove.Container)
		err := tx.Get(state.Containers, c.ID, now)
		if err == nil {
			err = e.dropRecord(tx, now)
		}
		if cove.Is(err, cove.NotFound) {
			return nil
		}
		return err
	}); err != nil {
		return err
	}
	e.forget(c)
	return nil
}
