package engine

import "context"

// Checkpoint writes a running container's processes to the disk and, unless
// they are to run on, ends it. CRIU does it, for containers of an OCI runtime that
// calls it, like runc.
func (e *Engine) Checkpoint(ctx context.Context, nameOrID string, o CheckpointOptions) (CheckpointResult, error) {
	return e.now().Checkpoint(ctx, nameOrID, o)
}

// Restore lets a container go on from its last checkpoint.
func (e *Engine) Restore(ctx context.Context, nameOrID string, o RestoreOptions) (CheckpointResult, error) {
	return e.now().Restore(ctx, nameOrID, o)
}

// RestoreArchive makes a container of an exported checkpoint, the path of an archive
// or, with o.Image, the name of an image, and lets it go on. CRIU does as root what
// they say: their maker has to be trusted.
func (e *Engine) RestoreArchive(ctx context.Context, name string, o ImportCheckpointOptions) (CheckpointResult, error) {
	return e.now().RestoreArchive(ctx, name, o)
}
