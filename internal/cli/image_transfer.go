package cli

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.podman.io/common/pkg/password"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/interrupt"
)

// transferFlags are the flags of pull and push about registries.
type transferFlags struct {
	image.Transfer
	tlsVerify, quiet bool
	retry            retryFlags
}

// retryFlags say how often a transfer that failed is tried again.
type retryFlags struct {
	times uint
	delay string
}

func (r *retryFlags) flags(fs *pflag.FlagSet) {
	fs.UintVar(&r.times, "retry", 3, "number of times to retry in case of failure")
	fs.StringVar(&r.delay, "retry-delay", "", "delay between retries in case of failures")
}

// value gives nil for what was not asked for.
func (r *retryFlags) value(fs *pflag.FlagSet) (times *uint, delay *time.Duration, err error) {
	if r.delay != "" {
		d, err := time.ParseDuration(r.delay)
		if err != nil || d < 0 {
			return nil, nil, usagef("invalid --retry-delay %q: it must be a duration such as 2s", r.delay)
		}
		delay = &d
	}
	return changed(fs, "retry", r.times), delay, nil
}

func (t *transferFlags) flags(fs *pflag.FlagSet) {
	fs.StringVar(&t.AuthFile, "authfile", "", "Path of the authentication file. Use REGISTRY_AUTH_FILE environment variable to override")
	fs.StringVar(&t.CertDir, "cert-dir", "", "`Pathname` of a directory containing TLS certificates and keys")
	fs.StringVar(&t.Creds, "creds", "", "`Credentials` (USERNAME:PASSWORD) to use for authenticating to a registry")
	fs.BoolVarP(&t.quiet, "quiet", "q", false, "Suppress output information")
	t.retry.flags(fs)
	fs.StringVar(&t.SignaturePolicy, "signature-policy", "", "`Pathname` of signature policy file")
	fs.Lookup("signature-policy").Hidden = true
	fs.BoolVar(&t.tlsVerify, "tls-verify", true, "Require HTTPS and verify certificates when contacting registries")
	// docker's; what it would check, the signature policy checks always.
	refuse(fs, []unsupported{{name: "disable-content-trust", bool: true, accept: []string{"true", "false"}}})
}

// transfer is what the flags ask for.
func (t *transferFlags) transfer(a *app, fs *pflag.FlagSet) (image.Transfer, error) {
	out := t.Transfer
	out.TLSVerify = changed(fs, "tls-verify", t.tlsVerify)
	var err error
	if out.Retries, out.RetryDelay, err = t.retry.value(fs); err != nil {
		return out, err
	}
	if err := checkAuthFile(t.AuthFile); err != nil {
		return out, err
	}
	if user, password, _ := strings.Cut(t.Creds, ":"); t.Creds != "" && (user == "" || password == "") {
		switch {
		case user == "":
			return out, usagef("invalid --creds: it must be USERNAME[:PASSWORD]")
		case a.terminal() == nil:
			return out, usagef("--creds %s has no password, and standard input is no terminal to ask for it: want USERNAME:PASSWORD", user)
		}
		out.AskPassword = a.askPassword
	}
	if !t.quiet {
		out.Progress = a.Err
	}
	return out, nil
}

// checkAuthFile refuses an --authfile that is not there, in podman's words: the library
// would go on without credentials.
func checkAuthFile(path string) error {
	if path == "" {
		return nil
	}
	if err := unix.Access(path, unix.F_OK); err != nil {
		return fmt.Errorf("credential file is not accessible: faccessat %s: %w", path, err)
	}
	return nil
}

// askPassword asks at the caller's terminal.
func (a *app) askPassword() (string, error) {
	defer interrupt.Ask()()
	fmt.Fprint(a.Err, "Password: ")
	typed, err := password.Read(int(a.terminal().Fd()))
	fmt.Fprintln(a.Err)
	if err != nil {
		return "", fmt.Errorf("read password from the terminal: %w", err)
	}
	return string(typed), nil
}

// platformFlags choose among the images of a list.
type platformFlags struct {
	platform, os, arch, variant string
}

func (p *platformFlags) flags(fs *pflag.FlagSet) {
	fs.StringVar(&p.arch, "arch", "", "Use `ARCH` instead of the architecture of the machine for choosing images")
	fs.StringVar(&p.os, "os", "", "Use `OS` instead of the running OS for choosing images")
	fs.StringVar(&p.platform, "platform", "", "Specify the platform for selecting the image.  (Conflicts with arch and os)")
	fs.StringVar(&p.variant, "variant", "", "Use VARIANT instead of the running architecture variant for choosing images")
}

// value is os/arch[/variant], or "" for this machine's.
func (p *platformFlags) value() (string, error) {
	if p.platform != "" {
		if p.os != "" || p.arch != "" {
			return "", errors.New("--platform option can not be specified with --arch or --os")
		}
		v, parts := p.platform, strings.Count(p.platform, "/")
		if parts > 2 {
			return "", fmt.Errorf("invalid platform %q: must be OS[/ARCH[/VARIANT]]", v)
		}
		if parts == 0 {
			v += "/" + runtime.GOARCH
		}
		if p.variant == "" {
			return v, nil
		}
		if parts < 2 {
			return v + "/" + p.variant, nil
		}
		return "", usagef("--platform %s names a variant already, --variant %s another", p.platform, p.variant)
	}
	if p.os == "" && p.arch == "" && p.variant == "" {
		return "", nil
	}
	v := p.os
	if v == "" {
		v = runtime.GOOS
	}
	if p.arch != "" {
		v += "/" + p.arch
	} else {
		v += "/" + runtime.GOARCH
	}
	if p.variant != "" {
		v += "/" + p.variant
	}
	return v, nil
}

// completeLocalImages completes the names of images; at most n arguments, 0
// is no limit.
func (a *app) completeLocalImages(n int) completer {
	return func(c *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
		const no = cobra.ShellCompDirectiveNoFileComp
		if n > 0 && len(args) >= n {
			return nil, no
		}
		eng, err := a.imageEngine()
		if err != nil {
			return nil, no
		}
		images, err := eng.Images(c.Context(), image.ListOptions{})
		if err != nil {
			return nil, no
		}
		var out []string
		for _, i := range images {
			for _, name := range i.Names {
				if strings.HasPrefix(name, begin) || strings.HasPrefix(name[strings.LastIndexByte(name, '/')+1:], begin) {
					out = append(out, name)
				}
			}
			if begin != "" && strings.HasPrefix(i.ID, begin) {
				out = append(out, shortID(i.ID, false))
			}
		}
		return out, no
	}
}
