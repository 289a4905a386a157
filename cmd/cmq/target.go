package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/client"
)

// target is what the flags of a client command say about where it goes.
type target struct {
	endpoints []string
	secretID  string
	secretKey string
	context   string
}

// savedContext is one endpoint with its key, kept under a name in the user's configuration directory.
type savedContext struct {
	Endpoint  string `json:"endpoint"`
	SecretID  string `json:"secretId"`
	SecretKey string `json:"secretKey"`
}

// savedContexts is the file contexts.json.
type savedContexts struct {
	Current  string                  `json:"current"`
	Contexts map[string]savedContext `json:"contexts"`
}

// targetFlags adds --endpoint, --secret-id, --secret-key and --context to client commands.
func (a *app) targetFlags(cmds ...*cobra.Command) {
	for _, c := range cmds {
		f := c.Flags()
		f.StringSliceVar(&a.target.endpoints, "endpoint", nil, "address of the service, such as http://127.0.0.1:7670, or tcp://127.0.0.1:7671 for messages; repeat it to name more (or CMQ_ENDPOINT, separated by commas)")
		f.StringVar(&a.target.secretID, "secret-id", "", "id of the access key (or CMQ_SECRET_ID)")
		f.StringVar(&a.target.secretKey, "secret-key", "", "secret of the access key (or CMQ_SECRET_KEY)")
		f.StringVar(&a.target.context, "context", "", "saved context to use, see: cmq context (or CMQ_CONTEXT)")
	}
}

// resolve fills what flags left open: from a context named by --context, else from the environment, else from
// the context named by CMQ_CONTEXT or the current one.
func (a *app) resolve() (target, error) {
	t := a.target
	from := func(c savedContext) {
		if len(t.endpoints) == 0 && c.Endpoint != "" {
			t.endpoints = strings.Split(c.Endpoint, ",")
		}
		t.secretID = cmp.Or(t.secretID, c.SecretID)
		t.secretKey = cmp.Or(t.secretKey, c.SecretKey)
	}
	if t.context != "" {
		c, err := a.savedContext(t.context)
		if err != nil {
			return t, err
		}
		from(c)
	}
	from(savedContext{a.env("CMQ_ENDPOINT"), a.env("CMQ_SECRET_ID"), a.env("CMQ_SECRET_KEY")})
	if len(t.endpoints) == 0 || t.secretID == "" || t.secretKey == "" {
		c, err := a.savedContext(a.env("CMQ_CONTEXT"))
		if err != nil {
			return t, err
		}
		from(c)
	}
	switch {
	case len(t.endpoints) == 0:
		return t, usagef("no endpoint: give --endpoint http://HOST:PORT, set CMQ_ENDPOINT, or save one with: cmq context add\na local cluster to try things out starts with: cmq dev")
	case t.secretID == "" || t.secretKey == "":
		return t, usagef("no access key: give --secret-id and --secret-key, set CMQ_SECRET_ID and CMQ_SECRET_KEY, or save them with: cmq context add")
	}
	return t, nil
}

// client makes the client for a command.
func (a *app) client(opts ...client.Option) (*client.Client, error) {
	t, err := a.resolve()
	if err != nil {
		return nil, err
	}
	return t.client(t.endpoints, opts...)
}

// client makes a client for some endpoints.
func (t *target) client(endpoints []string, opts ...client.Option) (*client.Client, error) {
	c, err := client.New(endpoints[0], t.secretID, t.secretKey, append(opts, client.WithEndpoints(endpoints[1:]...))...)
	if err != nil {
		return nil, usageError{err.Error()}
	}
	return c, nil
}

// byProtocol gives the endpoints of TCP and those of HTTP.
func (t *target) byProtocol() (tcp, http []string) {
	for _, e := range t.endpoints {
		if strings.HasPrefix(e, "tcp://") {
			tcp = append(tcp, e)
		} else {
			http = append(http, e)
		}
	}
	return tcp, http
}

// savedContext gives the named context, or for "" the current one, which may be none.
func (a *app) savedContext(name string) (savedContext, error) {
	all, _, err := a.loadContexts()
	if err != nil {
		return savedContext{}, err
	}
	if name == "" {
		return all.Contexts[all.Current], nil
	}
	c, ok := all.Contexts[name]
	if !ok {
		return c, usagef("there is no context %q; see: cmq context list", name)
	}
	return c, nil
}

func (a *app) contextsPath() (string, error) {
	dir := a.env("XDG_CONFIG_HOME")
	if dir == "" {
		home := a.env("HOME")
		if home == "" {
			return "", errors.New("neither HOME nor XDG_CONFIG_HOME is set, so there is no place for saved contexts")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "cmq", "contexts.json"), nil
}

// loadContexts reads the file; one that is not there is empty.
func (a *app) loadContexts() (savedContexts, string, error) {
	all := savedContexts{Contexts: make(map[string]savedContext)}
	path, err := a.contextsPath()
	if err != nil {
		return all, "", nil // nothing saved; only saving needs a place
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, path, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		return all, path, fmt.Errorf("saved contexts in %s: %w; correct or remove the file", path, err)
	}
	if all.Contexts == nil {
		all.Contexts = make(map[string]savedContext)
	}
	return all, path, nil
}

func (a *app) saveContexts(all savedContexts) error {
	path, err := a.contextsPath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return writeFileAtomically(path, append(data, '\n'), 0o600)
}

// writeFileAtomically leaves either the old or the new content, whenever the process ends.
func writeFileAtomically(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already after the rename
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
