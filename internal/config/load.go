package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
	yamlv3 "go.yaml.in/yaml/v3"
)

// maxFile bounds the configuration file; a real one has a few kilobytes.
const maxFile = 1 << 20

// Problem is one thing wrong with the configuration.
type Problem struct {
	Source string // "cmq.yaml:7", "CMQ_NODE_ID", "--node-id" or "default"
	Key    string // empty if it concerns no single key
	Text   string
}

// Problems are all that is wrong, as one error with a line each.
type Problems []Problem

// Error lists them.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Text
		if p.Key != "" {
			lines[i] = p.Key + " " + p.Text
		}
		if p.Source != "" {
			lines[i] = p.Source + ": " + lines[i]
		}
	}
	if len(lines) == 1 {
		return "configuration: " + lines[0]
	}
	return fmt.Sprintf("configuration has %d problems:\n  %s", len(lines), strings.Join(lines, "\n  "))
}

// Flags adds a flag for every key to fs, for Sources.Flags.
func Flags(fs *pflag.FlagSet) { flags(fs, Keys()) }

func flags(fs *pflag.FlagSet, keys []Key) {
	for _, k := range keys {
		text := k.Doc
		if len(k.oneof) > 0 {
			text += " One of " + strings.Join(k.oneof, ", ") + "."
		}
		switch k.kind {
		case reflect.Slice:
			fs.Var(&list{text: k.Default}, k.Flag, text)
		case reflect.Bool:
			fs.String(k.Flag, k.Default, text)
			fs.Lookup(k.Flag).NoOptDefVal = "true"
		default:
			fs.String(k.Flag, k.Default, text)
		}
	}
}

// list is the value of a flag that may be repeated: it is all that was given, with commas between.
type list struct {
	text  string
	given bool
}

// Set adds to what was given; the default goes.
func (l *list) Set(text string) error {
	if l.given {
		text = l.text + "," + text
	}
	l.text, l.given = text, true
	return nil
}

// String gives all of it.
func (l *list) String() string { return l.text }

// Type is shown in the help.
func (l *list) Type() string { return "strings" }

// Sources are where settings come from; each may be absent.
type Sources struct {
	File    string         // path of a YAML file
	Environ []string       // as os.Environ gives it
	Flags   *pflag.FlagSet // made by Flags; only flags that were set count
}

// Load reads and validates the configuration of a server. The error is of type Problems.
func Load(src Sources) (Config, error) {
	l := loader{keys: Keys(), aliases: map[string]string{"CMQ_SECRET_ID": "auth.secret_id", "CMQ_SECRET_KEY": "auth.secret_key", "CMQ_SECRET_KEY_FILE": "auth.secret_key_file"}}
	cfg := Default()
	l.load(src, reflect.ValueOf(&cfg).Elem())
	return cfg, l.judge(cfg.Validate())
}

// load puts what src says into the struct that has the keys.
func (l *loader) load(src Sources, into reflect.Value) {
	l.source, l.k = make(map[string]string), koanf.New(".")
	l.file(src.File)
	l.environ(src.Environ)
	l.flags(src.Flags)
	l.decode(into)
	l.secretFiles(into)
}

// judge adds what is wrong with the values to what was wrong on the way, and gives all of it; nil: nothing.
func (l *loader) judge(found Problems) error {
	bad := make(map[string]bool)
	for _, p := range l.problems {
		bad[p.Key] = true
	}
	for _, p := range found {
		if !bad[p.Key] { // a value that could not be read is still the default; do not judge that
			l.report(l.source[p.Key], p.Key, p.Text)
		}
	}
	if len(l.problems) > 0 {
		return l.problems
	}
	return nil
}

// loader collects the layers, weakest first.
type loader struct {
	keys     []Key
	k        *koanf.Koanf
	aliases  map[string]string // further variables → key
	source   map[string]string // key → where its value came from
	problems Problems
}

func (l *loader) report(source, key, text string) {
	l.problems = append(l.problems, Problem{source, key, text})
}

func (l *loader) names() []string {
	names := make([]string, len(l.keys))
	for i, k := range l.keys {
		names[i] = k.Name
	}
	return names
}

// content is a koanf provider of bytes that were read before.
type content []byte

func (c content) ReadBytes() ([]byte, error)    { return c, nil }
func (c content) Read() (map[string]any, error) { return nil, errors.New("content has bytes only") }

func (l *loader) file(path string) {
	if path == "" {
		return
	}
	data, err := readFile(path)
	if err != nil {
		l.report(path, "", err.Error())
		return
	}
	var doc yamlv3.Node
	if err := yamlv3.Unmarshal(data, &doc); err != nil {
		l.report(path, "", strings.TrimPrefix(err.Error(), "yaml: "))
		return
	}
	if len(doc.Content) == 0 {
		return // empty, or comments only
	}
	if doc.Content[0].Kind != yamlv3.MappingNode {
		l.report(path, "", `is not a list of "key: value" lines`)
		return
	}
	if twice := l.walk(path, "", doc.Content[0]); twice {
		return // which of the two counts, nobody can say
	}
	if err := l.k.Load(content(data), yaml.Parser()); err != nil {
		l.report(path, "", err.Error())
	}
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be opened: %w", errors.Unwrap(err))
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && !st.Mode().IsRegular() {
		return nil, errors.New("is not a file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("is larger than %d bytes; that is not a configuration file", maxFile)
	}
	return bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), nil
}

// walk notes the line of every key and reports unknown and repeated ones; twice says that there are repeated ones.
func (l *loader) walk(path, prefix string, m *yamlv3.Node) (twice bool) {
	seen := make(map[string]int)
	for i := 0; i+1 < len(m.Content); i += 2 {
		name, value := prefix+m.Content[i].Value, m.Content[i+1]
		at := fmt.Sprintf("%s:%d", path, m.Content[i].Line)
		if line, again := seen[name]; again {
			l.report(at, name, fmt.Sprintf("is given twice; the first is in line %d", line))
			twice = true
			continue
		}
		seen[name] = m.Content[i].Line
		known := slices.ContainsFunc(l.keys, func(k Key) bool { return k.Name == name })
		section := slices.ContainsFunc(l.keys, func(k Key) bool { return strings.HasPrefix(k.Name, name+".") })
		switch {
		case known:
			l.source[name] = at
		case section && value.Kind == yamlv3.MappingNode:
			twice = l.walk(path, name+".", value) || twice
		case section:
			l.report(at, name, "is a section; its keys belong indented below it")
		default:
			l.report(at, "", fmt.Sprintf("unknown key %q%s", name, didYouMean(name, l.names())))
		}
	}
	return twice
}

// environ takes CMQ_SECTION_KEY variables. Others that begin with CMQ_ are left alone, as container platforms
// make some (CMQ_SERVICE_HOST), unless one is so near to a key's name that it must be a slip.
func (l *loader) environ(environ []string) {
	byEnv := make(map[string]string)
	var names []string
	for _, k := range l.keys {
		byEnv[k.Env] = k.Name
		names = append(names, k.Env)
	}
	given := make(map[string]bool)
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		given[name] = true
		if byEnv[name] != "" || l.aliases[name] != "" || !strings.HasPrefix(name, "CMQ_") {
			continue
		}
		if near := Nearest(name, names); near != "" && distance(name, near) <= 2 {
			l.report(name, "", fmt.Sprintf("unknown variable; did you mean %q?", near))
		}
	}
	p := env.Provider(".", env.Opt{
		Prefix:      "CMQ_",
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			key := byEnv[name]
			if long := "CMQ_AUTH_" + strings.TrimPrefix(name, "CMQ_"); key == "" && !given[long] {
				key = l.aliases[name]
			}
			if key != "" {
				l.source[key] = name
			}
			return key, value
		},
	})
	if err := l.k.Load(p, nil); err != nil {
		l.report("environment", "", err.Error())
	}
}

func (l *loader) flags(fs *pflag.FlagSet) {
	if fs == nil {
		return
	}
	p := posflag.ProviderWithFlag(fs, ".", nil, func(f *pflag.Flag) (string, any) {
		for _, k := range l.keys {
			if k.Flag == f.Name && f.Changed {
				l.source[k.Name] = "--" + f.Name
				return k.Name, f.Value.String()
			}
		}
		return "", nil
	})
	if err := l.k.Load(p, nil); err != nil {
		l.report("flags", "", err.Error())
	}
}

func (l *loader) decode(v reflect.Value) {
	for _, k := range l.keys {
		if !l.k.Exists(k.Name) {
			continue
		}
		if err := k.parse(v.FieldByIndex(k.field), l.k.Get(k.Name)); err != nil {
			l.report(l.source[k.Name], k.Name, err.Error())
		}
	}
}

// fileSuffix ends the name of a key that names the file of a secret: without it, it is the name of the secret's own key.
const fileSuffix = "_file"

// secretFiles reads each secret from the file that is named for it, if one is. A secret given directly beside the file is
// a mistake: nobody would know which of them counts.
func (l *loader) secretFiles(v reflect.Value) {
	secrets := make(map[string]reflect.Value)
	for _, k := range l.keys {
		if k.Secret {
			secrets[k.Name] = v.FieldByIndex(k.field)
		}
	}
	for _, k := range l.keys {
		name, _ := strings.CutSuffix(k.Name, fileSuffix)
		secret, path := secrets[name], v.FieldByIndex(k.field)
		if k.Secret || !secret.IsValid() || path.String() == "" {
			continue
		}
		if secret.String() != "" {
			l.report(l.source[k.Name], k.Name, "and "+name+" are both given; keep one")
			continue
		}
		text, err := secretIn(path.String())
		if err != nil {
			l.report(l.source[k.Name], k.Name, err.Error())
			continue
		}
		secret.SetString(text)
	}
}

// secretIn reads the file of a secret, without the line feed that editors put at its end.
func secretIn(path string) (string, error) {
	data, err := readFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}
