package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/interrupt"
)

func loginCommand(a *app) *cobra.Command {
	var (
		o         = image.LoginOptions{Stdin: a.In, Stdout: a.Out}
		tlsVerify bool
	)
	c := &cobra.Command{
		Use:  "login [options] [REGISTRY]",
		Long: "Login to a container registry on a specified server.",
		Example: "  cove login quay.io\n" +
			"  cove login --username ... --password-stdin quay.io\n" +
			"  cove login --authfile dir/auth.json quay.io",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.TLSVerify = changed(c.Flags(), "tls-verify", tlsVerify)
			if err := checkLogin(o, c.Flags().Changed("password")); err != nil {
				return err
			}
			eng, err := a.imageEngine()
			if err != nil {
				return err
			}
			if !o.PasswordStdin {
				defer interrupt.Ask()()
			}
			return eng.Login(c.Context(), first(args), o)
		},
	}
	fs := c.Flags()
	fs.StringVar(&o.AuthFile, "authfile", "", "path of the authentication file. Use REGISTRY_AUTH_FILE environment variable to override")
	fs.StringVar(&o.CertDir, "cert-dir", "", "use certificates at the specified path to access the registry")
	fs.BoolVar(&o.GetLogin, "get-login", false, "Return the current login user for the registry")
	fs.StringVarP(&o.Password, "password", "p", "", "Password for registry; other users of the host may see it, prefer --password-stdin")
	fs.BoolVar(&o.PasswordStdin, "password-stdin", false, "Take the password from stdin")
	fs.BoolVar(&tlsVerify, "tls-verify", true, "Require HTTPS and verify certificates when contacting registries")
	fs.StringVarP(&o.User, "username", "u", "", "Username for registry")
	fs.BoolVarP(&o.Verbose, "verbose", "v", false, "Write more detailed information to stdout")
	fs.StringVar(&o.CompatFile, "compat-auth-file", "", "path of a Docker-compatible config file to update instead")
	refuse(fs, []unsupported{{name: "secret"}})
	return c
}

// checkLogin refuses flags that contradict each other; password says whether
// --password was given.
func checkLogin(o image.LoginOptions, password bool) error {
	switch {
	case o.PasswordStdin && password:
		return usagef("Can't specify both --password-stdin and --password")
	case o.PasswordStdin && o.User == "":
		return usagef("Must provide --username with --password-stdin")
	case strings.ContainsRune(o.User, ':'):
		return usagef("invalid --username %q: it must not contain a colon", o.User)
	}
	return nil
}

// first is the argument of a command that takes at most one; "" without.
func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
