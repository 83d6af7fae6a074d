package cli

import (
	"context"

	"github.com/cove-engine/cove/internal/image"
)

// RegistryEngine is the verbs about registries. An empty registry is the
// first of registries.conf's search list. Both write what they have to say to
// the options' Stdout; Login asks on Stdin for what the options lack.
type RegistryEngine interface {
	Login(ctx context.Context, registry string, o image.LoginOptions) error
	Logout(ctx context.Context, registry string, o image.LogoutOptions) error
}
