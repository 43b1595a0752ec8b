package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// keys are the paths of everything the components must prove to each other.
type keys struct {
	ca                                   string
	servingCert, servingKey              string
	serviceAccount, serviceAccountPublic string
	kubeconfig                           string
	admin                                *rest.Config
}

// authority signs the certificates of one control plane. It lives in memory:
// nothing is signed after the start.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// writeKeys makes a CA, what it signs and a kubeconfig for an administrator
// (group system:masters, which may also impersonate every service account).
func writeKeys(dir, server string) (keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return keys{}, err
	}
	k := keys{
		ca:                   filepath.Join(dir, "ca.crt"),
		servingCert:          filepath.Join(dir, "apiserver.crt"),
		servingKey:           filepath.Join(dir, "apiserver.key"),
		serviceAccount:       filepath.Join(dir, "serviceaccount.key"),
		serviceAccountPublic: filepath.Join(dir, "serviceaccount.pub"),
		kubeconfig:           filepath.Join(dir, "kubeconfig"),
	}

	ca, caPEM, err := newAuthority()
	if err != nil {
		return keys{}, err
	}
	serving, servingKey, err := ca.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		DNSNames:    []string{"localhost", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return keys{}, err
	}
	admin, adminKey, err := ca.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return keys{}, err
	}
	signer, signerPEM, err := newKey()
	if err != nil {
		return keys{}, err
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return keys{}, err
	}
	for path, content := range map[string][]byte{
		k.ca:                   caPEM,
		k.servingCert:          serving,
		k.servingKey:           servingKey,
		k.serviceAccount:       signerPEM,
		k.serviceAccountPublic: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return keys{}, err
		}
	}

	config := api.NewConfig()
	config.Clusters["e2e"] = &api.Cluster{Server: server, CertificateAuthorityData: caPEM}
	config.AuthInfos["admin"] = &api.AuthInfo{ClientCertificateData: admin, ClientKeyData: adminKey}
	config.Contexts["e2e"] = &api.Context{Cluster: "e2e", AuthInfo: "admin"}
	config.CurrentContext = "e2e"
	if err := clientcmd.WriteToFile(*config, k.kubeconfig); err != nil {
		return keys{}, err
	}
	k.admin, err = clientcmd.NewDefaultClientConfig(*config, nil).ClientConfig()
	return k, err
}

func newAuthority() (authority, []byte, error) {
	key, _, err := newKey()
	if err != nil {
		return authority{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "e2e"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, nil, err
	}
	return authority{cert, key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// sign fills in what all certificates share and returns certificate and key as PEM.
func (a authority) sign(template *x509.Certificate) (cert, keyPEM []byte, err error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return nil, nil, err
	}
	template.NotBefore, template.NotAfter = a.cert.NotBefore, a.cert.NotAfter
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM, nil
}

func newKey() (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func urls(port int) ([]url.URL, error) {
	parsed, err := url.Parse("http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	return []url.URL{*parsed}, nil
}
