//! Lists, in pages.

use kcm_tests::api_server::{ApiServer, Ask};

#[test]
fn a_list_with_a_limit_comes_in_pages_that_are_complete_together() {
    let api = ApiServer::start();
    for number in 0..5 {
        api.add_node(&format!("n{number}"));
    }
    let (mut names, mut next, mut left) = (Vec::new(), String::new(), Vec::new());
    loop {
        let page = api.send(&Ask::get(&format!("/api/v1/nodes?limit=2&continue={next}"))).unwrap();
        let page = page.json();
        let items = page["items"].as_array().unwrap();
        names.extend(items.iter().map(|node| node["metadata"]["name"].clone()));
        left.push(page["metadata"]["remainingItemCount"].as_u64());
        match page["metadata"]["continue"].as_str() {
            Some(token) => next = token.to_owned(),
            None => break,
        }
    }
    assert_eq!(names, ["n0", "n1", "n2", "n3", "n4"]);
    assert_eq!(left, [Some(3), Some(1), None]);
}

#[test]
fn a_page_whose_token_is_none_is_gone() {
    let api = ApiServer::start();
    assert_eq!(api.send(&Ask::get("/api/v1/nodes?limit=2&continue=made-up")).unwrap().status, 410);
}
