//! A gateway to rehearse and test against: follows the contract, fails on purpose, keeps the books.
