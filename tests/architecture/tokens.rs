//! What the rules need to see of Rust's tokens: paths, attributes, lengths of functions, and where test code begins.
//!
//! Invariant: what stands inside macros and attributes is seen too.
//! Never does: know a rule.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

pub(super) fn is_test(item: &impl ToTokens) -> bool {
    let mut found = false;
    let mut tokens = item.to_token_stream().into_iter();
    // Attributes come first: pairs of `#` and a group.
    while matches!(tokens.next(), Some(TokenTree::Punct(hash)) if hash.as_char() == '#') {
        found |= tokens.next().is_some_and(|group| group.to_string().replace(' ', "") == "[cfg(test)]");
    }
    found
}

pub(super) fn drop_tests(items: &mut Vec<syn::Item>) {
    items.retain(|item| !is_test(item));
    for item in items {
        match item {
            syn::Item::Mod(module) => module.content.iter_mut().for_each(|(_, items)| drop_tests(items)),
            syn::Item::Impl(block) => block.items.retain(|item| !is_test(item)),
            _ => {}
        }
    }
}

/// Functions and how long they are: name, line, lines.
pub(super) struct Functions(pub(super) Vec<(String, usize, usize)>);

impl Functions {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let start = signature.span().start().line;
        let lines = block.span().end().line - start + 1;
        self.0.push((signature.ident.to_string(), start, lines));
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'a syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// Every path in the code with its line, those inside macros and attributes too; groups of `use` are spread out.
pub(super) fn paths(tokens: TokenStream) -> Vec<(Vec<String>, usize)> {
    let mut all = Vec::new();
    spread(tokens, &[], &mut all);
    all
}

pub(super) fn spread(tokens: TokenStream, prefix: &[String], all: &mut Vec<(Vec<String>, usize)>) {
    let mut path = prefix.to_vec();
    let (mut line, mut colons, mut imported) = (0, 0, false);
    let mut groups = Vec::new();
    // A name alone is a path only where it is imported; elsewhere it is a variable, a field, a method.
    let mut close = |path: &mut Vec<String>, line: usize, imported: bool| {
        if path.len() > prefix.len() && (path.len() > 1 || imported) {
            all.push((path.clone(), line));
        }
        path.truncate(prefix.len());
    };
    for token in tokens {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    let after_use = matches!(&path[..], [word] if word == "use" || word == "crate");
                    close(&mut path, line, imported);
                    imported = after_use;
                }
                line = ident.span().start().line;
                colons = 0;
                path.push(ident.to_string());
            }
            TokenTree::Group(group) if colons == 2 && group.delimiter() == Delimiter::Brace => {
                groups.push((group.stream(), path.clone()));
                path.truncate(prefix.len());
                colons = 0;
            }
            other => {
                close(&mut path, line, imported);
                (colons, imported) = (0, false);
                if let TokenTree::Group(group) = other {
                    groups.push((group.stream(), Vec::new()));
                }
            }
        }
    }
    close(&mut path, line, imported);
    for (stream, prefix) in groups {
        spread(stream, &prefix, all);
    }
}

/// Shows the inside of each `#[...]` and `#![...]`, wherever it stands.
pub(super) fn each_attribute(tokens: TokenStream, show: &mut impl FnMut(TokenStream, usize)) {
    let mut after_hash = false;
    for token in tokens {
        match token {
            TokenTree::Punct(punct) => after_hash = punct.as_char() == '#' || (after_hash && punct.as_char() == '!'),
            TokenTree::Group(group) => {
                if after_hash && group.delimiter() == Delimiter::Bracket {
                    show(group.stream(), group.span().start().line);
                }
                each_attribute(group.stream(), show);
                after_hash = false;
            }
            _ => after_hash = false,
        }
    }
}

pub(super) fn contains_call(tokens: TokenStream, name: &str) -> bool {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let called = tokens.windows(2).any(|pair| match pair {
        [TokenTree::Ident(ident), TokenTree::Group(_)] => ident == name,
        _ => false,
    });
    called || tokens.iter().any(|token| matches!(token, TokenTree::Group(group) if contains_call(group.stream(), name)))
}
