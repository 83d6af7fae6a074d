package library

import (
	"context"

	"go.podman.io/common/pkg/auth"
	imagetypes "go.podman.io/image/v5/types"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

// Login checks credentials with a registry ("" is the first to be searched)
// and keeps them in the authentication file.
func (s *Store) Login(ctx context.Context, registry string, o image.LoginOptions) error {
	sys := s.systemContext()
	sys.AuthFilePath = s.opts.AuthFile // auth knows the variable itself
	if o.TLSVerify != nil {
		sys.DockerInsecureSkipTLSVerify = imagetypes.NewOptionalBool(!*o.TLSVerify)
	}
	op := "log in to"
	if registry == "" {
		op = "log in"
	}
	_, err := bounded(ctx, s.opts.MaxHeap, op, registry, func(ctx context.Context, _ refuse) (struct{}, error) {
		err := auth.Login(ctx, sys, &auth.LoginOptions{
			AuthFile: o.AuthFile, DockerCompatAuthFile: o.CompatFile, CertDir: o.CertDir,
			Username: o.User, Password: o.Password, StdinPassword: o.PasswordStdin, GetLoginSet: o.GetLogin, Verbose: o.Verbose,
			Stdin: o.Stdin, Stdout: o.Stdout, AcceptRepositories: true, AcceptUnspecifiedRegistry: true,
		}, words(registry))
		if isType[auth.ErrNewCredentialsInvalid](err) {
			return struct{}{}, cove.E(op, registry, cove.Denied, plain(err))
		}
		return struct{}{}, fail(op, registry, err)
	})
	return err
}

// Logout removes a registry's credentials from the authentication file.
func (s *Store) Logout(registry string, o image.LogoutOptions) error {
	sys := s.systemContext()
	sys.AuthFilePath = s.opts.AuthFile
	err := auth.Logout(sys, &auth.LogoutOptions{
		AuthFile: o.AuthFile, DockerCompatAuthFile: o.CompatFile, All: o.All, Stdout: o.Stdout,
		AcceptRepositories: true, AcceptUnspecifiedRegistry: true,
	}, words(registry))
	if registry == "" {
		return fail("log out", "", err)
	}
	return fail("log out from", registry, err)
}

// words are the arguments that the library takes.
func words(registry string) []string {
	if registry == "" {
		return nil
	}
	return []string{registry}
}
