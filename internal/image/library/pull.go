package library

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.podman.io/common/libimage"
	"go.podman.io/common/pkg/config"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/pkg/shortnames"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/transports/alltransports"
	imagetypes "go.podman.io/image/v5/types"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

func copyOptions(t image.Transfer) libimage.CopyOptions {
	o := libimage.CopyOptions{
		Credentials:         t.Creds,
		AuthFilePath:        t.AuthFile,
		CertDirPath:         t.CertDir,
		SignaturePolicyPath: t.SignaturePolicy,
		Writer:              t.Progress,
		MaxRetries:          t.Retries,
		RetryDelay:          t.RetryDelay,
	}
	if t.TLSVerify != nil {
		o.InsecureSkipTLSVerify = imagetypes.NewOptionalBool(!*t.TLSVerify)
	}
	return o
}

// Pull brings an image into the store and gives the IDs of what name then
// stands for (one, unless AllTags). name may carry a transport
// (docker-archive:, oci:, dir:, docker-daemon:, …). On failure the store is
// as it was.
func (s *Store) Pull(ctx context.Context, name string, o image.PullOptions) ([]string, error) {
	const op = "pull image"
	if err := o.Complete(); err != nil {
		return nil, cove.E(op, name, cove.Denied, err)
	}
	return bounded(ctx, s.opts.MaxHeap, op, name, func(ctx context.Context, refuse refuse) ([]string, error) {
		return s.pull(ctx, refuse, op, name, o)
	})
}

func (s *Store) pull(ctx context.Context, refuse refuse, op, name string, o image.PullOptions) ([]string, error) {
	policy, err := config.ParsePullPolicy(o.Policy)
	if err != nil {
		return nil, cove.E(op, name, cove.Invalid, err)
	}
	p, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	lib, err := s.writable()
	if err != nil {
		return nil, err
	}
	opts := &libimage.PullOptions{CopyOptions: copyOptions(o.Transfer), AllTags: o.AllTags}
	opts.OS, opts.Architecture, opts.Variant = p.os, p.arch, p.variant
	// Asking for the list of tags heeds the runtime's context only.
	sys := lib.runtime.SystemContext()
	defer report(ctx, refuse.blobs(sys.BigFilesTemporaryDir), o.Report, &opts.CopyOptions)()
	if o.TLSVerify != nil {
		sys.DockerInsecureSkipTLSVerify = opts.InsecureSkipTLSVerify
	}
	set(&sys.AuthFilePath, o.AuthFile)
	set(&sys.DockerCertPath, o.CertDir)
	if user, password, ok := strings.Cut(o.Creds, ":"); o.AllTags && o.Creds != "" && ok {
		sys.DockerAuthConfig = &imagetypes.DockerAuthConfig{Username: user, Password: password}
	}
	var ids []string
	err = s.orClean(ctx, lib, sys, func(rt *libimage.Runtime) error {
		images, err := rt.Pull(ctx, name, policy, opts)
		for _, img := range images {
			ids = append(ids, img.ID())
		}
		return err
	})
	if errors.Is(err, io.ErrUnexpectedEOF) && fromRegistry(name) {
		return ids, cove.E(op, name, cove.Unavailable, plain(err))
	}
	return ids, failContent(op, name, withoutSearch(sys, name, err))
}

// withoutSearch says of a short name that a registries.conf without search registries is
// there: the library says then that there is none.
func withoutSearch(sys *imagetypes.SystemContext, name string, err error) error {
	if err == nil || !shortnames.IsShortName(name) {
		return err
	}
	if registries, e := sysregistriesv2.UnqualifiedSearchRegistries(sys); e != nil || len(registries) > 0 {
		return err
	}
	//lint:ignore SA1019 the one file, as podman names it; the function named instead lists all places
	file := sysregistriesv2.ConfigPath(sys)
	if _, e := os.Stat(file); e != nil {
		return err
	}
	if _, e := shortnames.Resolve(sys, name); e == nil { // an alias
		return err
	}
	return fmt.Errorf("short-name %q did not resolve to an alias and no unqualified-search registries are defined in %q", name, file)
}

// fromRegistry reports that name is not that of another transport. What ends
// too early there is taken for a connection that broke off: the libraries give
// the same error for a layer that was torn when it was pushed, and try again for
// both.
func fromRegistry(name string) bool {
	ref, err := alltransports.ParseImageName(name)
	return err != nil || ref.Transport().Name() == docker.Transport.Name()
}
