/* SPDX-License-Identifier: Apache-2.0
 *
 * A look into the files of certificates and keys, so that a wrong one is an error with a place and
 * not a listener on which every handshake fails. Who takes them for handshakes reads them again. */
#include "config/config_int.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>
#include <sys/stat.h>

/* The file as something that OpenSSL can read; NULL is reported. The text stays in `m`. */
static BIO *open_pem(struct report *r, struct mem *m, struct slice path, struct place at,
                     const char *what, struct slice *ret_text, unsigned *ret_mode)
{
    int error = file_read(m, path.p, PEM_BYTES_MAX, ret_text, ret_mode);
    if (error != 0) {
        const char *why = file_trouble(error);
        report_at(r, at, "`%s` cannot be read: %s; write the path of %s", report_show(r, path), why,
                  what);
        return NULL;
    }
    BIO *bio = BIO_new_mem_buf(ret_text->p, (int)ret_text->n);
    if (bio == NULL)
        r->mem->exhausted = true;
    return bio;
}

/* The first certificate of the file, the one of its own. */
static X509 *read_cert(struct report *r, struct slice path, struct place at)
{
    struct mem m = {0};
    struct slice text;
    unsigned mode;
    BIO *bio = open_pem(r, &m, path, at, "a PEM file of certificates", &text, &mode);
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    if (bio != NULL && cert == NULL)
        report_at(r, at,
                  "`%s` begins with no certificate; write a PEM file, -----BEGIN CERTIFICATE-----",
                  report_show(r, path));
    BIO_free(bio);
    mem_free(m.first);
    return cert;
}

/* Nobody is there to type one in. */
static int no_passphrase(char *buf, int size, int writing, void *ctx)
{
    (void)buf, (void)size, (void)writing;
    *(bool *)ctx = true;
    return -1;
}

static EVP_PKEY *read_key(struct report *r, struct slice path, struct place at)
{
    struct mem m = {0};
    struct slice text;
    unsigned mode;
    bool asked = false;
    EVP_PKEY *key = NULL;
    BIO *bio = open_pem(r, &m, path, at, "a PEM file of a private key", &text, &mode);
    if (bio != NULL && (mode & S_IRWXO) != 0) {
        report_at(r, at,
                  "`%s` is open to every user of this machine (mode %03o); chmod o= it, and "
                  "change it for a new one",
                  report_show(r, path), mode & 0777);
    } else if (bio != NULL) {
        key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &asked);
        if (key == NULL)
            report_at(r, at, "`%s` %s; write a PEM file, -----BEGIN PRIVATE KEY-----",
                      report_show(r, path),
                      asked ? "asks for a passphrase, and nobody is there to type one"
                            : "holds no private key");
    }
    if (bio != NULL)
        explicit_bzero((void *)(uintptr_t)text.p, text.n);
    BIO_free(bio);
    mem_free(m.first);
    return key;
}

void pem_check(struct report *r, struct slice cert, struct place cert_at, struct slice key,
               struct place key_at)
{
    X509 *x = cert.p != NULL ? read_cert(r, cert, cert_at) : NULL;
    EVP_PKEY *k = key.p != NULL ? read_key(r, key, key_at) : NULL;
    if (x != NULL && k != NULL && X509_check_private_key(x, k) != 1)
        report_at(r, key_at, "`%s` is not the key of `%s`; write the two that were made together",
                  report_show(r, key), report_show(r, cert));
    X509_free(x);
    EVP_PKEY_free(k);
    ERR_clear_error();
}
